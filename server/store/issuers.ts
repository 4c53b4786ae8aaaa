import type { AuditEntry } from "./audit.ts";
import type { IdentityEntry, Role } from "./identities.ts";

/** Roots are `active` while they are in the bundle. Leaves of `active` and `draining` issuers are accepted. */
export type IssuerState = "staged" | "active" | "draining" | "retired";

export interface IssuerRow {
  readonly id: string;
  readonly kind: "root" | "intermediate";
  /** Issuer id of the signer; a root names itself. */
  readonly parent: string;
  readonly state: IssuerState;
  readonly certificate: Uint8Array;
  /** Self-signed twin of an intermediate (same name and key): the trust anchor the listeners use. Never published. Null for roots. */
  readonly twin: Uint8Array | null;
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface CrlRecord {
  readonly issuerId: string;
  /** Must be exactly one above the newest stored (else StaleBasis), or any for an issuer's first. */
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly der: Uint8Array;
}

export interface BundleRow {
  readonly version: number;
  readonly createdAt: number;
  /** Issuer ids of the roots and intermediates in the bundle. */
  readonly roots: readonly string[];
  readonly intermediates: readonly string[];
  /** DER. */
  readonly crossCertificates: readonly Uint8Array[];
}

/** What `init` writes, all or nothing. */
export interface Foundation {
  readonly issuers: readonly IssuerRow[];
  readonly crls: readonly CrlRecord[];
  readonly bundle: BundleRow;
  /** The first operator, and the identity of the service itself. */
  readonly identities: readonly { readonly entry: IdentityEntry; readonly role?: Role }[];
  readonly at: number;
  readonly audit: readonly AuditEntry[];
}

export interface IssuerStore {
  /** Throws AppError `conflict` when the store already has issuers. */
  found(foundation: Foundation): Promise<void>;
  listIssuers(): Promise<readonly IssuerRow[]>;
  /** The newest bundle; null before `found`. */
  currentBundle(): Promise<BundleRow | null>;
  /** Throws StaleBasis when the number is not the next. Old CRLs may be dropped (the newest two stay). */
  recordCrl(crl: CrlRecord, audit: readonly AuditEntry[]): Promise<void>;
  latestCrl(issuerId: string): Promise<CrlRecord | null>;
}
