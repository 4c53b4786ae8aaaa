/** Who may do what through the admin API: one ladder of roles, one matrix, and the rule that operators are touched only by admins. */
import { AppError } from "@newleaf/shared/problems";
import type { Role } from "../store/identities.ts";
import type { Authority, Caller } from "./authority.ts";

/** From the least to the most: each role may what those before it may. */
export const roles: readonly Role[] = ["viewer", "approver", "operator", "admin"];

/**
 * The matrix: every act of the admin API and the least role that may do it. Each operation names its row, so that nothing can be
 * reached that is not in here. `requireTouch` comes on top for identities of profile operator.
 */
export const acts = {
  "status.read": "viewer",
  "identities.read": "viewer",
  "identities.write": "operator",
  "identities.remove": "operator",
  "identities.suspend": "operator",
  "inventory.plan": "viewer",
  "inventory.apply": "operator",
  "recovery.grant": "operator",
  "tokens.read": "viewer",
  "tokens.create": "operator",
  "tokens.revoke": "operator",
  "approvals.read": "viewer",
  "approvals.decide": "approver",
  "certificates.read": "viewer",
  "certificates.revoke": "operator",
  "certificates.adopt": "admin",
  "lineages.read": "viewer",
  "lineages.release": "operator",
  "pauses.read": "viewer",
  "pauses.lift": "operator",
  "issuers.read": "viewer",
  "issuers.revoke": "admin",
  "crls.publish": "operator",
  "audit.read": "viewer",
  "operators.read": "viewer",
  "operators.write": "admin",
  "backups.read": "viewer",
  "backups.create": "admin",
} as const satisfies Readonly<Record<string, Role>>;

export type Act = keyof typeof acts;

/** @throws AppError not-permitted */
export function requireAct(caller: Caller, act: Act): void {
  requireRole(caller, acts[act]);
}

/**
 * @throws AppError not-permitted
 */
export function requireRole(caller: Caller, needed: Role): void {
  const held = caller.role === undefined ? -1 : roles.indexOf(caller.role);
  if (held < roles.indexOf(needed)) {
    throw new AppError("not-permitted", `This needs the role ${needed}; ${caller.actor} has ${caller.role ?? "none"}`);
  }
}

/**
 * Identities of profile operator are touched only by an admin, on every route; those of the service by nobody.
 * The service's own work (no role) passes.
 * @throws AppError not-permitted
 */
export async function requireTouch(authority: Authority, caller: Caller, identity: string): Promise<void> {
  if (caller.actorKind === "system") return;
  const row = await authority.store.findIdentity(identity);
  if (row !== null) requireTouchOfProfile(caller, row.profile);
}

export function requireTouchOfProfile(caller: Caller, profile: string): void {
  if (profile === "service") throw new AppError("not-permitted", "This identity is the service's own");
  if (profile === "operator") requireRole(caller, "admin");
}

/**
 * Without an admin who can act nobody could manage operators any more, and nobody could make one: the last one stays as he is. Only
 * those count who hold a certificate that can be used. The store asks the same again when it writes.
 * @throws AppError not-permitted
 */
export async function requireAnotherAdmin(authority: Authority, id: string): Promise<void> {
  const row = await authority.store.findIdentity(id);
  if (row?.role !== "admin" || row.state !== "active") return;
  if (await authority.store.hasOtherActingAdmin(id, authority.clock.now())) return;
  throw new AppError(
    "not-permitted",
    `${id} is the last admin who holds a certificate in date: without one, operators cannot be managed any more`,
  );
}
