/** One identity at a time: add, change, suspend, resume, remove. Many at once: inventory.ts. */
import type { Names } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import type { IdentityEntry } from "../../store/identities.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { applyInventory, requireIdentity } from "./inventory.ts";
import { checkEntry } from "./plan.ts";
import { requireAnotherAdmin, requireTouchOfProfile } from "../permissions.ts";
import { revoke, turnAway } from "../revocation/revoke.ts";

/**
 * Adds one identity.
 * @throws AppError request-invalid, conflict (exists), key-in-use, key-blocked, not-permitted
 */
export async function addIdentity(
  authority: Authority,
  caller: Caller,
  entry: IdentityEntry,
): Promise<readonly string[]> {
  const checked = checkEntry(entry);
  caller.target = checked.id;
  requireTouchOfProfile(caller, checked.profile);
  if (checked.profile === "operator") {
    throw new AppError(
      "not-permitted",
      "Operators get a role when they are made; they are not added as plain identities",
    );
  }
  const present = await authority.store.findIdentity(checked.id);
  if (present !== null && present.state !== "removed")
    throw new AppError(
      "conflict",
      `${checked.id} is already in the inventory; change it with \`newleaf identity set\``,
    );
  const plan = await applyInventory(authority, caller, { identities: [checked], prune: false, revokeLive: false });
  return plan.warnings;
}

export interface IdentityPatch {
  readonly profile?: IdentityEntry["profile"];
  readonly names?: Partial<Names>;
  readonly keys?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Null or empty: nobody, nothing. */
  readonly owner?: string | null;
  readonly notes?: string | null;
  readonly rearmKeys?: boolean;
}

/** @throws AppError identity-unknown, request-invalid, key-in-use, key-blocked, not-permitted */
export async function changeIdentity(
  authority: Authority,
  caller: Caller,
  id: string,
  patch: IdentityPatch,
): Promise<readonly string[]> {
  caller.target = id;
  const row = await requireIdentity(authority, id);
  requireTouchOfProfile(caller, row.profile);
  if (
    patch.profile !== undefined &&
    patch.profile !== row.profile &&
    (patch.profile === "operator" || row.profile === "operator")
  ) {
    throw new AppError("not-permitted", "An identity does not become an operator, nor an operator anything else");
  }
  const entry: IdentityEntry = {
    id,
    profile: patch.profile ?? row.profile,
    names: { ...row.names, ...patch.names },
    keys: patch.keys ?? row.keys,
    labels: patch.labels ?? row.labels,
    owner: (patch.owner === undefined ? row.owner : patch.owner) ?? "",
    notes: (patch.notes === undefined ? row.notes : patch.notes) ?? "",
  };
  const plan = await applyInventory(authority, caller, { identities: [entry], prune: false, revokeLive: false });
  if (patch.rearmKeys === true) {
    const at = authority.clock.now();
    await authority.store.rearmKeys(id, at, [auditEntry(caller, at, "identity.keys-rearmed", id)]);
    authority.events.acted("identity.keys-rearmed", caller, { identity: id });
  }
  return plan.warnings;
}

/** Suspends or resumes. @throws AppError identity-unknown, not-permitted (also: the last admin is not suspended) */
export async function setSuspended(
  authority: Authority,
  caller: Caller,
  id: string,
  suspended: boolean,
): Promise<void> {
  caller.target = id;
  const row = await requireIdentity(authority, id);
  requireTouchOfProfile(caller, row.profile);
  if (suspended) await requireAnotherAdmin(authority, id);
  const at = authority.clock.now();
  const action = suspended ? "identity.suspended" : "identity.resumed";
  await authority.store.setIdentityState(id, suspended ? "suspended" : "active", at, [
    auditEntry(caller, at, action, id),
  ]);
  authority.events.acted(action, caller, { identity: id });
  authority.feed.announceTo(id);
  // Its leaves are refused from now on: so end its connections.
  if (suspended) turnAway(authority, await authority.store.listUsable(id, at));
}

/** Revokes its usable leaves (cessationOfOperation), then removes it. @throws AppError identity-unknown, not-permitted (also: the last admin stays) */
export async function removeIdentity(authority: Authority, caller: Caller, id: string): Promise<void> {
  caller.target = id;
  const row = await requireIdentity(authority, id);
  requireTouchOfProfile(caller, row.profile);
  await onFreshBasis(async () => {
    await requireAnotherAdmin(authority, id);
    await revoke(authority, caller, { identity: id }, "cessationOfOperation");
    const now = authority.clock.now();
    const fresh = await requireIdentity(authority, id);
    await authority.store.changeInventory([{ kind: "remove", id, basisRevision: fresh.revision }], now, [
      auditEntry(caller, now, "identity.removed", id),
    ]);
  });
  authority.events.acted("identity.removed", caller, { identity: id });
}
