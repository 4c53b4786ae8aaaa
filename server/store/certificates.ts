import type { AuditEntry } from "./audit.ts";
import type { ApprovalRow } from "./enrollments.ts";
import type { IdentityState, Profile } from "./identities.ts";
import type { CrlRecord, IssuerState } from "./issuers.ts";
import type { LineageState } from "./lineages.ts";
import type { RevocationRecord } from "./revocations.ts";
import type { Page, PageRequest } from "./store.ts";

/**
 * As stored. `expired` is never stored: a reader derives it from notAfter (a revoked or held one stays so).
 * `superseded` and `revoked` can both be true of a leaf: `state` is then `revoked` and `supersededAt` is set.
 */
export type StoredCertificateState = "pending" | "current" | "superseded" | "replaced" | "held" | "revoked";
export type IssuanceKind = "enrollment" | "renewal" | "recovery";

export interface CertificateRow {
  readonly serial: string;
  readonly issuerId: string;
  readonly identity: string;
  readonly profile: Profile;
  readonly kind: IssuanceKind;
  /** Null for the service's own certificates. */
  readonly lineage: string | null;
  /** Position in the lineage, from 1; 0 for the service's own. A replacement of a pending leaf takes the next number. */
  readonly generation: number;
  /** Serial of the leaf that asked for this one; null for the first of a lineage. */
  readonly parent: string | null;
  readonly state: StoredCertificateState;
  /** SPKI fingerprint. */
  readonly key: string;
  /** Fingerprint over the whole DER. */
  readonly fingerprint: string;
  readonly der: Uint8Array;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly issuedAt: number;
  readonly renewalStart: number;
  readonly renewalEnd: number;
  /** First request authenticated with it: when it became current. */
  readonly firstUsedAt: number | null;
  readonly supersededAt: number | null;
  readonly revokedAt: number | null;
  readonly reason: string | null;
}

/** All the gate needs of a presented leaf, in one read. */
export interface PresentedLeaf extends CertificateRow {
  readonly issuerState: IssuerState;
  readonly identityState: IdentityState;
  readonly identityRevision: number;
  readonly lineageState: LineageState | null;
}

/** What the decision relied on; each is checked again inside the transaction, a difference is `StaleBasis`. */
export interface IssuanceBasis {
  readonly identity: { readonly id: string; readonly revision: number };
  /** The issuer must still be active. */
  readonly issuerId: string;
  /** Renewal: the presented leaf must still be in this state. */
  readonly presented?: { readonly serial: string; readonly state: StoredCertificateState };
  /** Existing lineage: still active, and its newest generation still this. */
  readonly lineage?: { readonly id: string; readonly newestGeneration: number };
  /** Enrollment: the identity must have no locked lineage. */
  readonly noLockedLineage?: true;
  /** Spent in this transaction; must still be open. */
  readonly tokenId?: string;
  readonly requestId?: string;
  /** The request's approvals must still be these, and the operators who count still what they were. */
  readonly approvals?: readonly ApprovalRow[];
  readonly approvers?: readonly { readonly id: string; readonly revision: number }[];
  readonly grantId?: string;
  /** Approved fingerprint, disarmed in this transaction; must still be armed, and the identity must have no usable leaf. */
  readonly armedKey?: string;
}

export interface NewCertificate extends Omit<
  CertificateRow,
  "state" | "firstUsedAt" | "supersededAt" | "revokedAt" | "reason"
> {
  /** `pending`, or `current` for the service's own. */
  readonly state: "pending" | "current";
}

export interface IssuanceRecord {
  readonly certificate: NewCertificate;
  readonly basis: IssuanceBasis;
  /** A lineage that begins with this certificate. */
  readonly newLineage?: string;
  /** A pending leaf that this one replaces: becomes `replaced`, revoked (superseded) and is on `crls`, all in this transaction. */
  readonly replaces?: RevocationRecord;
  readonly crls?: readonly CrlRecord[];
  /** Who decided an approved request. */
  readonly decidedBy?: string;
  readonly audit: readonly AuditEntry[];
}

export interface PromotionRecord {
  readonly serial: string;
  readonly at: number;
  /** Where its first use came from. */
  readonly address?: string;
  readonly audit: readonly AuditEntry[];
}

export interface CertificateFilter extends PageRequest {
  readonly identity?: string;
  readonly state?: StoredCertificateState | "expired";
  readonly profile?: Profile;
  /** Only certificates in force (the newest released, not replaced, not revoked) of their identity with notAfter before this. */
  readonly expiresBefore?: number;
  readonly lineage?: string;
  readonly key?: string;
  /** `key=value` or `key`, of the identity. */
  readonly label?: string;
  /** Part of the identity's id, names, labels or owner; or the beginning of a serial, or of the fingerprint of key or certificate. */
  readonly q?: string;
  /**
   * `-issuedAt` unless said, with these exceptions: `notAfter` where `expiresBefore` filters, `-notAfter` where `state` is `superseded`
   * or `expired`.
   */
  readonly sort?: CertificateSort;
  /** Needed to tell `expired`. */
  readonly now: number;
}

/** `-` is descending. `issuedAt` is the order in which they were recorded. */
export const certificateSorts = ["issuedAt", "-issuedAt", "notAfter", "-notAfter", "serial", "-serial"] as const;
export type CertificateSort = (typeof certificateSorts)[number];

export interface CertificateCounts {
  readonly state: StoredCertificateState | "expired";
  readonly profile: Profile;
  readonly count: number;
}

export interface InForce {
  readonly identity: string;
  readonly profile: Profile;
  readonly serial: string;
  readonly fingerprint: string;
  readonly notAfter: number;
}

export interface CertificateStore {
  /**
   * Step 3 of the issuing sequence. Unique per issuer: serial; a key may stand under one identity only (`AppError key-in-use` when
   * it was taken meanwhile). Also binds the key to the identity. Throws `StaleBasis` when the basis moved.
   */
  recordIssuance(record: IssuanceRecord): Promise<void>;
  /**
   * First use: the pending leaf becomes current; the current leaf of its lineage becomes superseded; every usable leaf of the identity's
   * other lineages becomes superseded and those lineages end. A leaf that is no longer pending is left as it is (not an error).
   */
  promote(record: PromotionRecord): Promise<void>;
  findPresented(serial: string): Promise<PresentedLeaf | null>;
  findCertificate(serial: string): Promise<CertificateRow | null>;
  /** Generations of a lineage, oldest first. */
  listLineageCertificates(lineage: string): Promise<readonly CertificateRow[]>;
  /** The pending or current leaf that `parent` asked for and that was not replaced, newest generation. */
  findSuccessor(parent: string): Promise<CertificateRow | null>;
  /** The newest pending leaf for this key and identity, if any: the answer to a repeated enrollment. */
  findPendingByKey(identity: string, key: string): Promise<CertificateRow | null>;
  /** Pending, current or superseded leaves of an identity, unexpired, unrevoked, newest first. */
  listUsable(identity: string, now: number): Promise<readonly CertificateRow[]>;
  /** Newest leaf ever issued to the identity, in whatever state. */
  findLast(identity: string): Promise<CertificateRow | null>;
  listCertificates(filter: CertificateFilter): Promise<Page<CertificateRow>>;
  countCertificates(now: number): Promise<readonly CertificateCounts[]>;
  /** Leaves in force by notAfter, most urgent first, without the service's own. */
  listInForce(limit: number): Promise<readonly InForce[]>;
  countInForceBefore(notAfter: number, now: number): Promise<number>;
  /** Leaves in force past their renewal end. */
  countOverdue(now: number): Promise<number>;
  /** Pending and issued before this. */
  countUnconfirmed(issuedBefore: number): Promise<number>;
}
