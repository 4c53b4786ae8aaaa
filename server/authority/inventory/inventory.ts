/** The inventory: the approved identities. Nothing is issued to what is not in it. */
import { AppError } from "@newleaf/shared/problems";
import type { IdentityEntry, IdentityRow, InventoryChange } from "../../store/identities.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { checkEntry, type DesiredInventory, type InventoryPlan, type PlannedChange, planInventory } from "./plan.ts";
import { requireTouchOfProfile } from "../permissions.ts";
import { revoke } from "../revocation/revoke.ts";

/** In a refusal. */
const maxNamed = 20;

/**
 * Applies all of it or nothing.
 * @throws AppError request-invalid, conflict (a removal holds usable leaves), key-in-use, key-blocked, not-permitted
 */
export async function applyInventory(
  authority: Authority,
  caller: Caller,
  desired: DesiredInventory,
): Promise<InventoryPlan> {
  caller.target = "inventory";
  return onFreshBasis(async () => {
    const plan = await planInventory(authority, desired);
    const live = plan.changes.filter((change) => change.kind === "remove" && change.liveLeaves > 0);
    if (live.length > 0 && !desired.revokeLive) {
      const named = live.slice(0, maxNamed).map((change) => `${change.id} (${change.liveLeaves})`);
      const more = live.length > maxNamed ? ` and ${live.length - maxNamed} more` : "";
      throw new AppError(
        "conflict",
        `Removing would revoke usable leaves of ${named.join(", ")}${more}. Say revokeLive (--revoke-live) if that is meant`,
      );
    }
    const now = authority.clock.now();
    const entries = new Map(desired.identities.map(checkEntry).map((entry) => [entry.id, entry]));
    const steps: InventoryChange[] = [];
    for (const change of plan.changes) {
      const step = await toStep(authority, caller, change, entries.get(change.id));
      if (step !== null) steps.push(step);
    }
    await write(authority, caller, steps, plan, now);
    return plan;
  });
}

async function toStep(
  authority: Authority,
  caller: Caller,
  change: PlannedChange,
  entry: IdentityEntry | undefined,
): Promise<InventoryChange | null> {
  if (change.kind === "unchanged") return null;
  if (change.kind === "add") {
    if (entry === undefined) return null;
    requireTouchOfProfile(caller, entry.profile);
    if (entry.profile === "operator")
      throw new AppError("not-permitted", `${entry.id}: operators are not made by inventory`);
    return { kind: "add", entry };
  }
  if (change.kind === "remove") await revoke(authority, caller, { identity: change.id }, "cessationOfOperation");
  const row = await requireIdentity(authority, change.id);
  requireTouchOfProfile(caller, row.profile);
  if (change.kind === "remove") return { kind: "remove", id: row.id, basisRevision: row.revision };
  if (entry === undefined) return null;
  if ((entry.profile === "operator") !== (row.profile === "operator")) {
    throw new AppError(
      "not-permitted",
      `${entry.id}: an identity does not become an operator, nor an operator anything else`,
    );
  }
  return { kind: "change", entry, basisRevision: row.revision };
}

async function write(
  authority: Authority,
  caller: Caller,
  steps: readonly InventoryChange[],
  plan: InventoryPlan,
  now: number,
): Promise<void> {
  if (steps.length === 0) return;
  const differences = new Map(plan.changes.map((change) => [change.id, change.differences]));
  const audit = steps.map((step) => {
    const id = step.kind === "remove" ? step.id : step.entry.id;
    const verb = { add: "identity.added", change: "identity.changed", remove: "identity.removed" }[step.kind];
    return auditEntry(caller, now, verb, id, {
      differences: differences.get(id) ?? [],
    });
  });
  await authority.store.changeInventory(steps, now, audit);
  for (const entry of audit) {
    authority.events.acted(entry.action, caller, { identity: entry.target });
    authority.feed.announceTo(entry.target ?? "");
  }
}

/** @throws AppError not-found */
export async function requireIdentity(authority: Authority, id: string): Promise<IdentityRow> {
  const row = await authority.store.findIdentity(id);
  if (row === null || row.state === "removed") throw new AppError("not-found", `${id} is not in the inventory`);
  return row;
}
