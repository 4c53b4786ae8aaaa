import type { AuditEntry } from "./audit.ts";
import type { CrlRecord } from "./issuers.ts";

/** RFC 5280 §5.3.1 names that Newleaf uses. */
export type RevocationReason =
  | "unspecified"
  | "keyCompromise"
  | "cACompromise"
  | "affiliationChanged"
  | "superseded"
  | "cessationOfOperation"
  | "certificateHold"
  | "privilegeWithdrawn";

export interface RevocationRecord {
  readonly issuerId: string;
  readonly serial: string;
  readonly reason: RevocationReason;
  readonly revokedAt: number;
  /** Of the revoked certificate: its entry stays on the CRL until one CRL after this has carried it. */
  readonly notAfter: number;
}

/** One act of revoking, all or nothing. */
export interface RevocationAct {
  /** New, or replacing an earlier record of the same serial (hold → final, any → keyCompromise). Leaf state becomes `held` or `revoked`. */
  readonly records: readonly RevocationRecord[];
  /** The reason each serial had when this was decided (null: not revoked); a difference is StaleBasis. */
  readonly basis: ReadonlyMap<string, RevocationReason | null>;
  /** Nothing usable of this may be left when the act is done: a leaf issued after the decision is StaleBasis. */
  readonly allOf?: { readonly identity: string } | { readonly lineage: string } | { readonly key: string };
  /** SPKI fingerprints never to be accepted again. */
  readonly blockKeys: readonly string[];
  /** Lineages that end with this. */
  readonly endLineages: readonly string[];
  /** CRLs that contain the records, when their issuers' keys are at hand. */
  readonly crls: readonly CrlRecord[];
  readonly audit: readonly AuditEntry[];
}

export interface HoldRelease {
  readonly serial: string;
  readonly at: number;
  readonly crls: readonly CrlRecord[];
  readonly audit: readonly AuditEntry[];
}

export interface UnrevokedRequest {
  readonly issuerId: string;
  readonly now: number;
  readonly from?: number;
  readonly limit: number;
}

export interface UnrevokedLeaf {
  readonly serial: string;
  readonly identity: string;
  readonly lineage: string | null;
  readonly fingerprint: string;
  readonly notAfter: number;
  readonly revokedAt: number | null;
  readonly reason: RevocationReason | null;
}

export interface RevocationStore {
  revoke(act: RevocationAct): Promise<void>;
  /** held → the state it had before. StaleBasis when it is not held any more. */
  releaseHold(release: HoldRelease): Promise<void>;
  /**
   * What a CRL of this issuer issued at `thisUpdate` must list, ordered by serial: every revocation whose certificate had not expired by the
   * thisUpdate of the newest stored CRL (RFC 5280 §3.3: each is on one CRL after its notAfter). Given `now`, a CRL that was dated by a
   * clock ahead of it takes nobody off: he may be in date.
   */
  listRevocations(issuerId: string, now?: number): Promise<readonly RevocationRecord[]>;
  /** Issuers with a revocation newer than their newest CRL. */
  listStaleCrlIssuers(): Promise<readonly string[]>;
  /** Number of the first CRL that lists this revocation as it is; null when none does yet, or nothing is revoked. */
  findListing(issuerId: string, serial: string): Promise<number | null>;
  /**
   * Leaves of an issuer that are in date and not finally revoked (held ones count), those that end first first. For those who revoke in
   * batches: what is revoked is gone from the next one. `from` skips what ends before it.
   */
  listUnrevoked(request: UnrevokedRequest): Promise<readonly UnrevokedLeaf[]>;
  countUnrevoked(issuerId: string, now: number): Promise<number>;
  isKeyBlocked(key: string): Promise<boolean>;
}
