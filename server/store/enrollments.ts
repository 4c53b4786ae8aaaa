import type { AuditEntry } from "./audit.ts";
import type { Page, PageRequest } from "./store.ts";

export interface TokenRow {
  readonly id: string;
  readonly identity: string;
  readonly createdBy: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly spentAt: number | null;
  /** Serial of the leaf it was spent on. */
  readonly spentOn: string | null;
  readonly revokedAt: number | null;
}

export type RequestState = "pending" | "issued" | "denied";

/** An enrollment that waits, or waited, for an operator. */
export interface RequestRow {
  /** 128 random bits, hex. */
  readonly id: string;
  readonly state: RequestState;
  /** SPKI fingerprint. */
  readonly key: string;
  readonly csr: Uint8Array;
  readonly claim: string | null;
  /** Names the CSR asks for, for the operator to see. */
  readonly askedNames: readonly string[];
  readonly address: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** Chosen by the operator who approved. */
  readonly identity: string | null;
  readonly serial: string | null;
  readonly decidedBy: string | null;
  readonly decidedAt: number | null;
}

export interface GrantRow {
  readonly id: string;
  readonly identity: string;
  readonly createdBy: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly spentAt: number | null;
}

/** By hand, or by what the request came with: a token, an approved key or a grant counts as a yes of the operator who made it. */
export type ApprovalHow = "approval" | "token" | "approved-key" | "recovery-grant";

/** One yes to a request that waits. */
export interface ApprovalRow {
  /** Identity id of the operator. */
  readonly by: string;
  readonly how: ApprovalHow;
  /** Who the key is to be. */
  readonly identity: string;
  /** Id of the token or grant, or the key's fingerprint; null for one by hand. */
  readonly admission: string | null;
  readonly at: number;
}

export interface EnrollmentStore {
  /** StaleBasis when the identity was removed or has another revision by now: a token is for the one that was looked at. */
  createToken(
    token: TokenRow & { readonly secretHash: string },
    basisRevision: number,
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** By SHA-256 (hex) of the token's secret. */
  findToken(secretHash: string): Promise<TokenRow | null>;
  findTokenById(id: string): Promise<TokenRow | null>;
  listTokens(page: PageRequest & { readonly identity?: string }): Promise<Page<TokenRow>>;
  /** Throws AppError `not-found`; an already spent or revoked one is left as it is. */
  revokeToken(id: string, at: number, audit: readonly AuditEntry[]): Promise<void>;

  /**
   * One open request per key: an unexpired one for the same key, pending or denied, is returned instead of the new one. Expired ones are dropped on the way.
   * Throws AppError `rate-limited` when `maxOpen` requests, or `maxOpenPerAddress` from this address (an IPv6 /64 is one), are pending.
   */
  openRequest(
    request: RequestRow,
    limits: { readonly maxOpen: number; readonly maxOpenPerAddress: number },
    audit: readonly AuditEntry[],
  ): Promise<RequestRow>;
  /** Null also when it has expired by `now`. */
  findRequest(id: string, now: number): Promise<RequestRow | null>;
  findRequestByKey(key: string, now: number): Promise<RequestRow | null>;
  listRequests(page: PageRequest & { readonly state?: RequestState; readonly now: number }): Promise<Page<RequestRow>>;
  countPendingRequests(now: number): Promise<number>;
  /** pending → denied. StaleBasis when it is no longer pending. (Approval is part of `recordIssuance`, by `basis.requestId`; an enrollment of the same key in another way answers a pending request, too.) */
  denyRequest(id: string, decidedBy: string, at: number, audit: readonly AuditEntry[]): Promise<void>;

  /** Oldest first. They go when their request goes. */
  listApprovals(request: string): Promise<readonly ApprovalRow[]>;
  /** Pending requests that came with this token, key or grant. */
  countRequestsWith(admission: string, now: number): Promise<number>;
  /**
   * Adds a yes; an earlier one of the same operator by hand, or by an earlier admission, is replaced. `known` is what `listApprovals`
   * answered when this was decided. StaleBasis when the request is no longer pending, the identity was removed or the approvals are others by now.
   */
  approveRequest(
    id: string,
    approval: ApprovalRow,
    known: readonly ApprovalRow[],
    audit: readonly AuditEntry[],
  ): Promise<void>;

  /** StaleBasis as for a token. */
  createGrant(grant: GrantRow, basisRevision: number, audit: readonly AuditEntry[]): Promise<void>;
  /** Unspent and unexpired. */
  findOpenGrant(identity: string, now: number): Promise<GrantRow | null>;
  findGrant(id: string): Promise<GrantRow | null>;
}
