import type { AuditEntry } from "./audit.ts";
import type { IdentityEntry, Role } from "./identities.ts";
import type { RevocationReason, RevocationRecord } from "./revocations.ts";

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
  /** When it was revoked here as a whole, and why; its state is `retired` since. Absent or null: it was not. */
  readonly revokedAt?: number | null;
  readonly revocationReason?: RevocationReason | null;
}

export interface CrlRecord {
  readonly issuerId: string;
  /** Must be exactly one above the newest stored (else StaleBasis), or any for an issuer's first. */
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly der: Uint8Array;
  /** When the revocations it lists were read, which is after a backdated thisUpdate. Not stored; absent: thisUpdate. */
  readonly asOf?: number;
}

/** An issuer is revoked as a whole. Its leaves follow as acts of their own, in batches. */
export interface IssuerRevocation {
  readonly issuerId: string;
  readonly reason: RevocationReason;
  readonly at: number;
  readonly audit: readonly AuditEntry[];
}

/** A CRL that was made elsewhere, with the issuer's key. */
export interface ImportedCrl {
  readonly crl: CrlRecord;
  /** The next number when it was judged; another is StaleBasis. */
  readonly basisNext: number;
  /** All it lists. */
  readonly records: readonly RevocationRecord[];
  readonly audit: readonly AuditEntry[];
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
  /** Retires the issuer for good. Once: what is revoked already stays as it is (its audit rows are not written again). Throws AppError `not-found`. */
  revokeIssuer(revocation: IssuerRevocation): Promise<void>;
  /** Throws StaleBasis when another CRL came meanwhile; AppError `conflict` when its number is not above the newest. */
  importCrl(imported: ImportedCrl): Promise<void>;
}
