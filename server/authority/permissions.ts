/** Who may do what through the admin API: one ladder of roles, and the rule that operators are touched only by admins. */
import { AppError } from "@newleaf/shared/problems";
import type { Role } from "../store/identities.ts";
import type { Authority, Caller } from "./authority.ts";

const ladder: readonly Role[] = ["viewer", "approver", "operator", "admin"];

/**
 * @throws AppError not-permitted
 */
export function requireRole(caller: Caller, needed: Role): void {
  const held = caller.role === undefined ? -1 : ladder.indexOf(caller.role);
  if (held < ladder.indexOf(needed)) {
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
 * Without an admin in force nobody could manage operators any more, and nobody could make one: the last one stays.
 * @throws AppError not-permitted
 */
export async function requireAnotherAdmin(authority: Authority, id: string): Promise<void> {
  const row = await authority.store.findIdentity(id);
  if (row?.role !== "admin" || row.state !== "active") return;
  const request = { profile: "operator", state: "active", limit: 1000, now: authority.clock.now() } as const;
  for (let cursor: string | null = ""; cursor !== null;) {
    const page = await authority.store.listIdentities({ ...request, ...(cursor === "" ? {} : { cursor }) });
    if (page.items.some((other) => other.id !== id && other.role === "admin")) return;
    cursor = page.nextCursor;
  }
  throw new AppError("not-permitted", `${id} is the last admin: without one, operators cannot be managed any more`);
}
