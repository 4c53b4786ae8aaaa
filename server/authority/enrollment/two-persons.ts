/**
 * Two people for one certificate. Where a profile says `approvals: 2`, a token, an approved key or a recovery grant does not issue: it is
 * the first yes, of the operator who made it, and the request waits for one of somebody else. What counts is judged anew at each
 * decision: an operator who was removed, suspended or demoted meanwhile counts no more, and nobody counts for himself.
 */
import type { ServerConfig } from "../../config.ts";
import type { CertificateRow, IssuanceBasis, IssuanceKind } from "../../store/certificates.ts";
import type { ApprovalHow, ApprovalRow, GrantRow, RequestRow, TokenRow } from "../../store/enrollments.ts";
import type { IdentityRow, KeyRow, Profile } from "../../store/identities.ts";
import type { Authority } from "../authority.ts";
import { type Act, acts, roles } from "../permissions.ts";

export type Spending = Pick<
  IssuanceBasis,
  "tokenId" | "requestId" | "grantId" | "armedKey" | "presented" | "approvals" | "approvers"
>;

/** What lets a host enroll without anybody being asked: made beforehand by one operator, spent once. */
export interface Admission {
  readonly how: Exclude<ApprovalHow, "approval">;
  /** Of the token or grant; of a key its fingerprint. */
  readonly id: string;
  /** The operator who made it; null for a key that none approved. */
  readonly by: string | null;
  readonly kind: IssuanceKind;
  readonly spends: Spending;
  /** For the audit log. */
  readonly facts: Readonly<Record<string, unknown>>;
}

export function tokenAdmission(token: TokenRow): Admission {
  const facts = { by: "token", token: token.id };
  return {
    how: "token",
    id: token.id,
    by: token.createdBy,
    kind: "enrollment",
    spends: { tokenId: token.id },
    facts,
  };
}

export function keyAdmission(key: KeyRow): Admission {
  const spends = { armedKey: key.fingerprint };
  const facts = { by: "approved-key" };
  return { how: "approved-key", id: key.fingerprint, by: key.approvedBy, kind: "enrollment", spends, facts };
}

/** `presented`: the last leaf, which must still be what it was: a revocation meanwhile bars the recovery. */
export function grantAdmission(grant: GrantRow, presented: IssuanceBasis["presented"] | null): Admission {
  const spends = { grantId: grant.id, ...(presented == null ? {} : { presented }) };
  const facts = { by: "recovery-grant", grant: grant.id };
  return { how: "recovery-grant", id: grant.id, by: grant.createdBy, kind: "recovery", spends, facts };
}

/** What a recovery goes on from. A host that had the name before is no predecessor of the operator who has it now, nor the other way round. */
export async function lastLeaf({ store }: Authority, identity: IdentityRow): Promise<CertificateRow | null> {
  const last = await store.findLast(identity.id);
  return last !== null && (last.profile === "operator") === (identity.profile === "operator") ? last : null;
}

/** As the configuration is now, whatever it was when the request was made. */
export function approvalsNeeded(config: ServerConfig, profile: Profile): number {
  return profile === "service" ? 1 : config.profiles[profile].approvals;
}

/** A yes that counts, with the revision of the operator who said it. */
export interface Yes extends ApprovalRow {
  readonly revision: number;
}

export interface Yeses {
  /** All that is recorded, as basis of a decision. */
  readonly known: readonly ApprovalRow[];
  /** Those for this identity that count now. */
  readonly counting: readonly Yes[];
  /** What the request came with, while it is open; it is spent with the issuance, whether its maker still counts or not. */
  readonly admission: Admission | null;
}

/** What is said about a request, as far as it is about this identity. */
export async function findYeses(
  authority: Authority,
  request: Pick<RequestRow, "id" | "key">,
  identity: IdentityRow,
): Promise<Yeses> {
  const known = await authority.store.listApprovals(request.id);
  const counting: Yes[] = [];
  let admission: Admission | null = null;
  for (const row of known) {
    if (row.identity !== identity.id) continue;
    if (row.how !== "approval") {
      admission = await openAdmission(authority, row, request.key, identity);
      if (admission === null) continue;
    }
    const revision = await voiceOf(authority, row.by, row.how, identity);
    if (revision !== null) counting.push({ ...row, revision });
  }
  return { known, counting, admission };
}

/** The act that a yes stands for: whoever may no longer do it says no yes any more. */
const actOf: Readonly<Record<ApprovalHow, Act>> = {
  approval: "approvals.decide",
  token: "tokens.create",
  "approved-key": "identities.write",
  "recovery-grant": "recovery.grant",
};

/** The operator's revision if his yes to this identity counts now, else null. */
export async function voiceOf(
  authority: Authority,
  operator: string,
  how: ApprovalHow,
  identity: IdentityRow,
): Promise<number | null> {
  if (operator === identity.id) return null;
  const row = await authority.store.findIdentity(operator);
  if (row?.profile !== "operator" || row.state !== "active" || row.role === null) return null;
  const needed = identity.profile === "operator" ? "admin" : acts[actOf[how]];
  return roles.indexOf(row.role) >= roles.indexOf(needed) ? row.revision : null;
}

/** Different people, whatever each of them said and how often. */
export function peopleOf(yeses: readonly Pick<ApprovalRow, "by">[]): ReadonlySet<string> {
  return new Set(yeses.map(({ by }) => by));
}

/** For the basis of an issuance: those who made it possible must still be what they were. */
export function approversOf(
  yeses: readonly Pick<Yes, "by" | "revision">[],
): readonly { id: string; revision: number }[] {
  return [...new Map(yeses.map(({ by, revision }) => [by, { id: by, revision }])).values()];
}

/** The admission of a recorded yes, if it is open still and still its maker's. */
async function openAdmission(
  authority: Authority,
  row: ApprovalRow,
  key: string,
  admitted: IdentityRow,
): Promise<Admission | null> {
  const { store, clock } = authority;
  const { id: identity } = admitted;
  const now = clock.now();
  const id = row.admission ?? "";
  if (row.how === "token") {
    const token = await store.findTokenById(id);
    const isOpen = token?.identity === identity && token.spentAt === null && token.revokedAt === null;
    return isOpen && token.expiresAt > now && token.createdBy === row.by ? tokenAdmission(token) : null;
  }
  const known = await store.findKey(key);
  if (row.how === "approved-key") {
    const isArmed = known?.identity === identity && known.armed && known.approvedBy === row.by;
    return isArmed && (await store.listUsable(identity, now)).length === 0 ? keyAdmission(known) : null;
  }
  const grant = await store.findGrant(id);
  if (grant?.identity !== identity || grant.spentAt !== null || grant.expiresAt <= now) return null;
  const last = await lastLeaf(authority, admitted);
  if (last?.state === "revoked" || last?.state === "held") return null;
  if (known?.approved !== true && last?.key !== key) return null;
  return grantAdmission(grant, last);
}
