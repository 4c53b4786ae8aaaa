/** The inventory: the approved identities. Nothing is issued to what is not in it. */
import { isFingerprint } from "@newleaf/shared/fingerprint";
import { isIdentityId, normaliseNames, type Names } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import type { IdentityEntry, IdentityRow, InventoryChange } from "../store/identities.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "./authority.ts";
import { requireTouchOfProfile } from "./permissions.ts";
import { revoke } from "./revoke.ts";

export interface Difference {
  readonly field: "profile" | "dns" | "ip" | "uri" | "email" | "keys" | "labels";
  readonly from: unknown;
  readonly to: unknown;
}

export interface PlannedChange {
  readonly kind: "add" | "change" | "remove" | "unchanged";
  readonly id: string;
  readonly differences: readonly Difference[];
  /** Usable leaves that a removal would revoke. */
  readonly liveLeaves: number;
}

export interface InventoryPlan {
  readonly changes: readonly PlannedChange[];
  /** Names or keys that stand twice: names may be shared, keys never. */
  readonly warnings: readonly string[];
}

export interface DesiredInventory {
  readonly identities: readonly IdentityEntry[];
  /** Remove what is not listed (operators and the service itself are never pruned). */
  readonly prune: boolean;
  /** Remove also what holds usable leaves, revoking them. */
  readonly revokeLive: boolean;
}

const maxKeys = 16;
const maxNames = 100;
const maxLabels = 32;
/** In a warning about a shared name. */
const maxNamed = 10;

/**
 * An entry in canonical form.
 * @throws AppError request-invalid naming what is wrong with which identity
 */
export function checkEntry(entry: IdentityEntry): IdentityEntry {
  if (!isIdentityId(entry.id)) {
    throw new AppError(
      "request-invalid",
      `"${entry.id.slice(0, 80)}" is not an identity id: a letter or digit, then up to 63 of A-Z a-z 0-9 . _ @ -`,
    );
  }
  let names: Names;
  try {
    names = normaliseNames(entry.names);
  } catch (error) {
    throw new AppError("request-invalid", `${entry.id}: ${error instanceof Error ? error.message : "bad name"}`, {
      cause: error,
    });
  }
  if (Object.values(names).flat().length > maxNames)
    throw new AppError("request-invalid", `${entry.id}: more than ${maxNames} names`);
  const keys = [...new Set(entry.keys)];
  const bad = keys.find((key) => !isFingerprint(key));
  if (bad !== undefined)
    throw new AppError(
      "request-invalid",
      `${entry.id}: "${bad.slice(0, 80)}" is not an SPKI fingerprint (sha256: and 64 hex digits)`,
    );
  if (keys.length > maxKeys) throw new AppError("request-invalid", `${entry.id}: more than ${maxKeys} keys`);
  if (Object.keys(entry.labels).length > maxLabels)
    throw new AppError("request-invalid", `${entry.id}: more than ${maxLabels} labels`);
  return { ...entry, names, keys };
}

/** What applying would change; reads only. */
export async function planInventory(authority: Authority, desired: DesiredInventory): Promise<InventoryPlan> {
  const entries = desired.identities.map(checkEntry);
  const ids = new Set<string>();
  const repeated = entries.find((entry) => ids.size === ids.add(entry.id).size);
  if (repeated !== undefined) throw new AppError("request-invalid", `${repeated.id} is listed twice`);
  const present = await allIdentities(authority);
  const byId = new Map(present.map((row) => [row.id, row]));
  const changes: PlannedChange[] = entries.map((entry) => {
    const row = byId.get(entry.id);
    if (row === undefined)
      return { kind: "add", id: entry.id, differences: differencesFromNothing(entry), liveLeaves: 0 };
    const differences = differencesBetween(row, entry);
    return { kind: differences.length === 0 ? "unchanged" : "change", id: entry.id, differences, liveLeaves: 0 };
  });
  if (desired.prune) {
    const wanted = new Set(entries.map((entry) => entry.id));
    for (const row of present) {
      if (wanted.has(row.id) || row.profile === "operator") continue;
      const usable = await authority.store.listUsable(row.id, authority.clock.now());
      changes.push({ kind: "remove", id: row.id, differences: [], liveLeaves: usable.length });
    }
  }
  await refuseSharedKeys(authority, entries);
  return { changes, warnings: sharedNames(entries, present, desired.prune) };
}

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
      const list = live.map((change) => `${change.id} (${change.liveLeaves})`).join(", ");
      throw new AppError("conflict", `Removing would revoke usable leaves of ${list}; say revokeLive to do so`);
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

/** Every identity that is not removed, without the service's own. */
export async function allIdentities(authority: Authority): Promise<readonly IdentityRow[]> {
  const rows: IdentityRow[] = [];
  let cursor: string | null = null;
  do {
    const page: { items: readonly IdentityRow[]; nextCursor: string | null } = await authority.store.listIdentities({
      limit: 1000,
      now: authority.clock.now(),
      ...(cursor === null ? {} : { cursor }),
    });
    rows.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return rows;
}

function differencesBetween(row: IdentityRow, entry: IdentityEntry): Difference[] {
  const pairs: Difference[] = [
    { field: "profile", from: row.profile, to: entry.profile },
    { field: "dns", from: row.names.dns, to: entry.names.dns },
    { field: "ip", from: row.names.ip, to: entry.names.ip },
    { field: "uri", from: row.names.uri, to: entry.names.uri },
    { field: "email", from: row.names.email, to: entry.names.email },
    { field: "keys", from: row.keys.toSorted(), to: entry.keys.toSorted() },
    { field: "labels", from: sortedRecord(row.labels), to: sortedRecord(entry.labels) },
  ];
  return pairs.filter(({ from, to }) => JSON.stringify(from) !== JSON.stringify(to));
}

function differencesFromNothing(entry: IdentityEntry): Difference[] {
  const nothing = { dns: [], ip: [], uri: [], email: [] };
  const empty = { id: entry.id, profile: entry.profile, names: nothing, keys: [], labels: {} };
  return [
    { field: "profile", from: null, to: entry.profile },
    ...differencesBetween(empty as unknown as IdentityRow, entry),
  ];
}

function sortedRecord(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

async function refuseSharedKeys(authority: Authority, entries: readonly IdentityEntry[]): Promise<void> {
  const holder = new Map<string, string>();
  for (const entry of entries) {
    for (const key of entry.keys) {
      const other = holder.get(key) ?? (await authority.store.findKey(key))?.identity;
      if (other !== undefined && other !== entry.id)
        throw new AppError("key-in-use", `${entry.id}: key ${key} belongs to ${other}`);
      holder.set(key, entry.id);
    }
  }
}

function sharedNames(entries: readonly IdentityEntry[], present: readonly IdentityRow[], prune: boolean): string[] {
  const listed = new Set(entries.map((entry) => entry.id));
  const others = prune ? [] : present.filter((row) => !listed.has(row.id));
  const holders = new Map<string, string[]>();
  for (const { id, names } of [...entries, ...others]) {
    for (const name of Object.values(names).flat()) {
      const known = holders.get(name);
      if (known === undefined) holders.set(name, [id]);
      else known.push(id);
    }
  }
  return [...holders]
    .filter(([, ids]) => ids.length > 1 && ids.some((id) => listed.has(id)))
    .map(([name, ids]) => {
      const more = ids.length > maxNamed ? ` and ${ids.length - maxNamed} more` : "";
      return `${name} is shared by ${ids.slice(0, maxNamed).join(", ")}${more}`;
    });
}
