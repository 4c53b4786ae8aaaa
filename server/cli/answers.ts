/** What the admin API answers, as far as the command line shows it. Times are ISO 8601. */
import type { Names } from "@newleaf/shared/names";

export interface IdentityAnswer {
  readonly id: string;
  readonly profile: string;
  readonly names: Names;
  readonly keys: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly owner: string | null;
  readonly notes: string | null;
  readonly state: string;
  readonly leaf: {
    readonly serial: string;
    readonly issuedAt: string;
    readonly notAfter: string;
    readonly state: string;
    readonly fingerprint: string;
  } | null;
  readonly lineage: string | null;
  /** Of the leaf that the host will serve next; null when it serves the newest. */
  readonly nextFingerprint: string | null;
  readonly listeners: readonly {
    readonly name: string;
    readonly address: string;
    readonly issued: string | null;
    readonly installed: string | null;
    readonly served: string;
    readonly servedAt: string;
    /** in-force, next, before, withdrawn or foreign. */
    readonly state: string;
  }[];
  /** What is wrong, a sentence each. */
  readonly wrong: readonly string[];
  readonly reportedAt: string | null;
  readonly lastSeen: string | null;
  readonly warnings?: readonly string[];
}

export interface InventoryChangeAnswer {
  readonly kind: "add" | "change" | "remove" | "unchanged";
  readonly id: string;
  readonly differences: readonly { readonly field: string; readonly from: unknown; readonly to: unknown }[];
  readonly liveLeaves: number;
}

export interface InventoryPlanAnswer {
  readonly changes: readonly InventoryChangeAnswer[];
  readonly warnings: readonly string[];
}

export interface CreatedTokenAnswer {
  readonly id: string;
  readonly token: string;
  readonly identity: string;
  readonly expiresAt: string;
  readonly rootFingerprint: string;
}

export interface TokenAnswer {
  readonly id: string;
  readonly identity: string;
  readonly createdBy: string;
  /** open, spent, revoked or expired. */
  readonly state: string;
  readonly expiresAt: string;
}

export interface OperatorAnswer {
  readonly id: string;
  readonly role: string;
  readonly state: string;
  readonly leaf: { readonly serial: string; readonly notAfter: string; readonly state: string } | null;
}

export interface ApprovalAnswer {
  readonly id: string;
  readonly state: string;
  /** SPKI fingerprint; the wire calls it as the enrollment does. */
  readonly fingerprint: string;
  readonly claim: string | null;
  /** What the CSR asks for. */
  readonly names: readonly string[];
  readonly address: string;
  readonly createdAt: string;
  readonly expiresAt: string;
  /** As far as anybody has said who it is to be. */
  readonly identity: string | null;
  readonly needed: number | null;
  readonly approvals: readonly { readonly by: string; readonly how: string; readonly at: string }[];
}

export interface CertificateSummary {
  readonly serial: string;
  readonly identity: string;
  readonly profile: string;
  readonly state: string;
  readonly notAfter: string;
  readonly lineage: string | null;
  readonly generation: number;
  readonly reason: string | null;
  /** PEM; of one certificate only, not in lists. */
  readonly certificate?: string;
  readonly chain?: string;
}

export interface ListingCrlAnswer {
  readonly issuer: string;
  /** Null while no CRL lists it. */
  readonly number: number | null;
}

export interface IssuerStepAnswer {
  readonly issuer: string;
  readonly parent: string;
  readonly listedByParent: boolean;
  readonly unlistedLeaves: number;
  readonly otherIssuers: number;
  readonly next: string | null;
}

export interface RevocationAnswer {
  readonly revoked: readonly {
    readonly serial: string;
    readonly identity: string;
    readonly reason: string;
    readonly state: string;
    readonly notAfter: string;
    readonly places: readonly {
      readonly certificate: string;
      readonly installed: boolean;
      readonly served: readonly { readonly address: string; readonly serverName: string }[];
    }[];
  }[];
  readonly total: number;
  readonly expired: number;
  readonly blockedKeys: readonly string[];
  readonly dryRun: boolean;
  readonly crls: readonly ListingCrlAnswer[];
  readonly issuer?: IssuerStepAnswer;
}

interface UnconfirmedAnswer {
  readonly identity: string;
  readonly number: number | null;
  readonly lastSeen: string | null;
  readonly failure: string | null;
}

export interface ConfirmationsAnswer {
  readonly issuer: string;
  readonly number: number;
  readonly connected: number;
  readonly confirmed: number;
  readonly unconfirmed: readonly UnconfirmedAnswer[];
  readonly silent: number;
  readonly silentUnconfirmed: readonly UnconfirmedAnswer[];
}

export interface LineageStoryAnswer extends LineageAnswer {
  readonly evidence: Readonly<Record<string, unknown>> | null;
  readonly story: readonly {
    readonly at: string;
    readonly event: string;
    readonly serial: string | null;
    readonly generation: number | null;
    readonly address: string | null;
    readonly actor: string | null;
    readonly key: string | null;
    readonly note: string | null;
  }[];
}

export interface LineageAnswer {
  readonly id: string;
  readonly identity: string;
  readonly state: string;
  /** The newest. */
  readonly generation: number;
  readonly createdAt: string;
  readonly lockedAt: string | null;
}

export interface IssuerAnswer {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly subject: string;
  readonly notAfter: string;
  readonly crl: { readonly number: number; readonly thisUpdate: string; readonly nextUpdate: string } | null;
}

export interface AttentionAnswer {
  readonly kind: string;
  readonly urgency: "now" | "soon" | "note";
  readonly count: number;
  readonly summary: string;
  readonly command: string;
  readonly subjects: readonly { readonly id: string; readonly since: string | null; readonly detail: string | null }[];
}

export interface StatusAnswer {
  readonly time: string;
  /** What needs a hand, the most pressing first. */
  readonly attention: readonly AttentionAnswer[];
  readonly certificates: readonly { readonly state: string; readonly profile: string; readonly count: number }[];
  readonly bundleVersion: number;
  readonly issuers: readonly Omit<IssuerAnswer, "subject">[];
}
