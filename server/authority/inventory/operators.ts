/** Operators are people: an identity of profile operator each, with a role that lives in the store and counts from the next request on. */
import type { Names } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { readCsr } from "../../ca/csr.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import type { IdentityEntry, IdentityFilter, IdentityRow, Role } from "../../store/identities.ts";
import type { Page } from "../../store/store.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { beginLineage } from "../enrollment/enroll.ts";
import { removeIdentity } from "./identities.ts";
import { checkEntry } from "./plan.ts";
import { requireAnotherAdmin, requireRole, roles } from "../permissions.ts";
import { revoke } from "../revocation/revoke.ts";
import { prepareToken, type CreatedToken } from "../enrollment/tokens.ts";

export interface NewOperator {
  readonly id: string;
  readonly role: Role;
  readonly names: Names;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * A new operator, and the token that brings the first certificate.
 * @param ttl milliseconds that the token lives
 * @throws AppError request-invalid, conflict (the id is taken), not-permitted
 */
export async function addOperator(
  authority: Authority,
  caller: Caller,
  operator: NewOperator,
  ttl: number,
): Promise<{ readonly operator: IdentityRow; readonly token: CreatedToken }> {
  const { role, ...rest } = operator;
  const entry: IdentityEntry = checkEntry({ ...rest, profile: "operator", keys: [] });
  caller.target = entry.id;
  requireRole(caller, "admin");
  if (entry.id === caller.actor) throw new AppError("conflict", `${entry.id} is you, and there already`);
  await refusePresent(authority, entry.id);
  const now = authority.clock.now();
  const token = prepareToken(authority, caller, entry.id, ttl);
  await authority.store.addOperator({ entry, role, token: token.row }, now, [
    addedEntry(caller, entry, role, now),
    token.audit,
  ]);
  authority.events.acted("operator.added", caller, { operator: entry.id, role });
  return { operator: await requireOperator(authority, entry.id), token: token.created };
}

/** Operators that are not removed, by id. */
export async function listOperators(
  authority: Authority,
  page: Pick<IdentityFilter, "limit" | "cursor">,
): Promise<Page<IdentityRow>> {
  return authority.store.listIdentities({ ...page, profile: "operator", now: authority.clock.now() });
}

/** @throws AppError not-found */
export async function requireOperator(authority: Authority, id: string): Promise<IdentityRow> {
  const row = await authority.store.findIdentity(id);
  if (row?.profile !== "operator" || row.state === "removed" || row.role === null)
    throw new AppError("not-found", `There is no operator ${id.slice(0, 64)}; newleaf operator list shows them`);
  return row;
}

/**
 * Another role, which counts from the operator's next request on.
 * @throws AppError not-found, not-permitted (his own role raised, or the last admin who could act)
 */
export async function setRole(authority: Authority, caller: Caller, id: string, role: Role): Promise<IdentityRow> {
  caller.target = id;
  return onFreshBasis(async () => {
    const row = await requireOperator(authority, id);
    requireRole(caller, "admin");
    if (id === caller.actor && roles.indexOf(role) > roles.indexOf(row.role ?? "viewer"))
      throw new AppError("not-permitted", "Nobody raises their own role; another admin has to");
    if (row.role === role) return row;
    if (role !== "admin") await requireAnotherAdmin(authority, id);
    const at = authority.clock.now();
    await authority.store.setRole({ id, role, basisRevision: row.revision }, at, [
      auditEntry(caller, at, "operator.role-changed", id, { from: row.role, to: role }),
    ]);
    authority.events.acted("operator.role-changed", caller, { operator: id, from: row.role, to: role });
    return requireOperator(authority, id);
  });
}

/**
 * Revokes the operator's certificates, closes what was given out, and removes the identity.
 * @throws AppError not-found, not-permitted (the last admin who could act)
 */
export async function removeOperator(authority: Authority, caller: Caller, id: string): Promise<void> {
  caller.target = id;
  await requireOperator(authority, id);
  await removeIdentity(authority, caller, id);
}

export interface Rescue {
  readonly id: string;
  readonly role: Role;
  /** PEM or base64 DER, of a key made for this. */
  readonly csr: string;
  /** Who does it, as the host knows him. */
  readonly hostUser: { readonly name: string; readonly uid: number };
}

/**
 * When no operator can act any more: makes or revives the operator with this role and issues to a fresh key. Locked lineages of his end,
 * with all their certificates; others are superseded at the new certificate's first use. The caller has made sure that it is the
 * owner of the service's host who asks. Needs no second person.
 * @throws AppError request-invalid, conflict (the id is another kind of identity), key-not-acceptable, issuer-unavailable
 */
export async function rescueOperator(authority: Authority, caller: Caller, rescue: Rescue): Promise<CertificateRow> {
  const { id, role, hostUser } = rescue;
  const csr = readCsr(rescue.csr);
  caller.target = id;
  await reviveOperator(authority, caller, rescue);
  for (;;) {
    const locked = await authority.store.findLockedLineage(id);
    if (locked === null) break;
    await revoke(authority, caller, { lineage: locked.id }, "superseded");
  }
  return onFreshBasis(async () => {
    const identity = await requireOperator(authority, id);
    const facts = { by: "rescue", role, hostUser: hostUser.name, hostUid: hostUser.uid };
    return beginLineage(authority, caller, { csr, identity, kind: "enrollment", spends: {}, facts });
  });
}

async function reviveOperator(authority: Authority, caller: Caller, { id, role, hostUser }: Rescue): Promise<void> {
  const { store } = authority;
  const names = { dns: [], ip: [], uri: [], email: [] };
  const entry = checkEntry({ id, profile: "operator", names, keys: [], labels: {} });
  const row = await store.findIdentity(id);
  const at = authority.clock.now();
  const told = auditEntry(caller, at, "operator.rescued", id, {
    role,
    hostUser: hostUser.name,
    hostUid: hostUser.uid,
    before: row === null ? null : { state: row.state, profile: row.profile, role: row.role },
  });
  if (row === null || row.state === "removed") {
    await store.addOperator({ entry, role, token: null }, at, [told, addedEntry(caller, entry, role, at)]);
    return;
  }
  if (row.profile !== "operator")
    throw new AppError("conflict", `${id} is of profile ${row.profile}, no operator; choose another id`);
  await store.recordAudit([told]);
  if (row.state === "suspended") {
    await store.setIdentityState(id, "active", at, [auditEntry(caller, at, "identity.resumed", id, { by: "rescue" })]);
  }
  if (row.role !== role) {
    const { revision } = await requireOperator(authority, id);
    await store.setRole({ id, role, basisRevision: revision }, at, [
      auditEntry(caller, at, "operator.role-changed", id, { from: row.role, to: role, by: "rescue" }),
    ]);
  }
}

/** Also an operator whose identity was removed counts as gone; any other identity of that id is in the way. */
async function refusePresent({ store }: Authority, id: string): Promise<void> {
  const present = await store.findIdentity(id);
  if (present !== null && present.state !== "removed")
    throw new AppError(
      "conflict",
      `${id} is already in the inventory (${present.profile}); newleaf operator set changes a role, newleaf token create makes a new token`,
    );
}

function addedEntry(caller: Caller, { id, names, labels }: IdentityEntry, role: Role, at: number) {
  return auditEntry(caller, at, "operator.added", id, { profile: "operator", role, names, labels });
}
