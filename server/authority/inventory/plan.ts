/** What applying an inventory would change, and what stands twice in it: found before anything is written. */
import { setImmediate as otherWork } from "node:timers/promises";
import { isFingerprint } from "@newleaf/shared/fingerprint";
import { isIdentityId, normaliseNames, noNames, type Names } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import type { IdentityEntry, IdentityRow } from "../../store/identities.ts";
import type { Authority } from "../authority.ts";

export interface Difference {
  readonly field: "profile" | "dns" | "ip" | "uri" | "email" | "keys" | "labels" | "owner" | "notes";
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
  /** Names that more than one identity holds, and gateways without any. Keys that stand twice are no warning but refused. */
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
const maxOwner = 256;
const maxNotes = 2000;
/** In a warning about a shared name. */
const maxNamed = 10;
/** Faults of one kind that a refusal lists. */
const maxFaults = 50;
/** Identities looked at before others get their turn. */
const slice = 200;

/**
 * An entry in canonical form.
 * @throws AppError request-invalid naming what is wrong with which identity
 */
export function checkEntry(entry: IdentityEntry): IdentityEntry {
  const fault = (what: string, cause?: unknown) =>
    new AppError("request-invalid", `${entry.id}: ${what}`, cause === undefined ? {} : { cause });
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
    throw fault(error instanceof Error ? error.message : "bad name", error);
  }
  if (Object.values(names).flat().length > maxNames) throw fault(`more than ${maxNames} names`);
  const keys = [...new Set(entry.keys)];
  const bad = keys.find((key) => !isFingerprint(key));
  if (bad !== undefined) throw fault(`"${bad.slice(0, 80)}" is not an SPKI fingerprint (sha256: and 64 hex digits)`);
  if (keys.length > maxKeys) throw fault(`more than ${maxKeys} keys`);
  if (Object.keys(entry.labels).length > maxLabels) throw fault(`more than ${maxLabels} labels`);
  const { owner: givenOwner, notes: givenNotes, ...rest } = entry;
  const owner = checkLine(givenOwner, maxOwner, "owner", fault);
  const notes = checkLine(givenNotes, maxNotes, "notes", fault);
  return {
    ...rest,
    names,
    keys,
    ...(owner === undefined ? {} : { owner }),
    ...(notes === undefined ? {} : { notes }),
  };
}

/** One line, without blanks around it; nothing in it is nothing. */
function checkLine(
  given: string | undefined,
  max: number,
  field: string,
  fault: (what: string) => AppError,
): string | undefined {
  const text = given?.trim() ?? "";
  if (text === "") return undefined;
  if (text.length > max) throw fault(`${field} has more than ${max} characters`);
  if (/[\p{Cc}\p{Cf}]/u.test(text)) throw fault(`${field} has control characters or line breaks; write it in one line`);
  return text;
}

/**
 * What applying would change; reads only.
 * @throws AppError request-invalid (an id twice), key-in-use (naming every key that stands twice), key-blocked (those as well)
 */
export async function planInventory(authority: Authority, desired: DesiredInventory): Promise<InventoryPlan> {
  const entries = desired.identities.map(checkEntry);
  refuseRepeated(entries);
  const present = await presentOf(authority, entries, desired.prune);
  const changes: PlannedChange[] = entries.map((entry) => {
    const row = present.get(entry.id);
    if (row === undefined)
      return { kind: "add", id: entry.id, differences: differencesFromNothing(entry), liveLeaves: 0 };
    const differences = differencesBetween(row, entry);
    return { kind: differences.length === 0 ? "unchanged" : "change", id: entry.id, differences, liveLeaves: 0 };
  });
  const removed = desired.prune ? await plannedRemovals(authority, entries, present) : [];
  const leaving = new Set(removed.map(({ id }) => id));
  await refuseSharedKeys(authority, entries, leaving);
  await refuseBlockedKeys(authority, entries, present);
  const kept = new Set([...present.keys()].filter((id) => !leaving.has(id)));
  const warnings = [
    ...(await sharedNames(authority, entries, desired.prune ? kept : null)),
    ...entries
      .filter(isNameless)
      .map(({ id }) => `${id} is a gateway without any name: no client can tell it by its certificate`),
  ];
  return { changes: [...changes, ...removed], warnings };
}

/** Every identity that is not removed, without the service's own. */
export async function allIdentities(authority: Authority): Promise<readonly IdentityRow[]> {
  const rows: IdentityRow[] = [];
  let cursor: string | null = null;
  do {
    const page: { items: readonly IdentityRow[]; nextCursor: string | null } = await authority.store.listIdentities({
      limit: slice,
      now: authority.clock.now(),
      ...(cursor === null ? {} : { cursor }),
    });
    rows.push(...page.items);
    cursor = page.nextCursor;
    await otherWork();
  } while (cursor !== null);
  return rows;
}

/** The listed identities as they are now; when the rest is pruned, all. */
async function presentOf(
  authority: Authority,
  entries: readonly IdentityEntry[],
  all: boolean,
): Promise<ReadonlyMap<string, IdentityRow>> {
  if (all) return new Map((await allIdentities(authority)).map((row) => [row.id, row]));
  const present = new Map<string, IdentityRow>();
  for (const [index, { id }] of entries.entries()) {
    if (index % slice === slice - 1) await otherWork();
    const row = await authority.store.findIdentity(id);
    if (row !== null && row.state !== "removed") present.set(id, row);
  }
  return present;
}

async function plannedRemovals(
  authority: Authority,
  entries: readonly IdentityEntry[],
  present: ReadonlyMap<string, IdentityRow>,
): Promise<PlannedChange[]> {
  const wanted = new Set(entries.map((entry) => entry.id));
  const removals: PlannedChange[] = [];
  for (const row of present.values()) {
    if (wanted.has(row.id) || row.profile === "operator") continue;
    if (removals.length % slice === slice - 1) await otherWork();
    const usable = await authority.store.listUsable(row.id, authority.clock.now());
    removals.push({ kind: "remove", id: row.id, differences: [], liveLeaves: usable.length });
  }
  return removals;
}

function isNameless({ profile, names }: IdentityEntry): boolean {
  return profile === "gateway" && Object.values(names).flat().length === 0;
}

function differencesBetween(row: IdentityEntry, entry: IdentityEntry): Difference[] {
  const pairs: Difference[] = [
    { field: "profile", from: row.profile, to: entry.profile },
    { field: "dns", from: row.names.dns, to: entry.names.dns },
    { field: "ip", from: row.names.ip, to: entry.names.ip },
    { field: "uri", from: row.names.uri, to: entry.names.uri },
    { field: "email", from: row.names.email, to: entry.names.email },
    { field: "keys", from: row.keys.toSorted(), to: entry.keys.toSorted() },
    { field: "labels", from: sortedRecord(row.labels), to: sortedRecord(entry.labels) },
    { field: "owner", from: row.owner ?? null, to: entry.owner ?? null },
    { field: "notes", from: row.notes ?? null, to: entry.notes ?? null },
  ];
  return pairs.filter(({ from, to }) => JSON.stringify(from) !== JSON.stringify(to));
}

function differencesFromNothing(entry: IdentityEntry): Difference[] {
  const empty: IdentityEntry = { id: entry.id, profile: entry.profile, names: noNames, keys: [], labels: {} };
  return [{ field: "profile", from: null, to: entry.profile }, ...differencesBetween(empty, entry)];
}

function sortedRecord(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function refuseRepeated(entries: readonly IdentityEntry[]): void {
  const times = new Map<string, number>();
  for (const { id } of entries) times.set(id, (times.get(id) ?? 0) + 1);
  const repeated = [...times].filter(([, count]) => count > 1).map(([id]) => id);
  if (repeated.length > 0)
    throw new AppError(
      "request-invalid",
      `${listed(repeated, ", ")}: listed more than once; each identity has one entry`,
    );
}

/** All of them, so that one look mends the file. A key may move from one identity to another as long as nothing was issued for it. */
async function refuseSharedKeys(
  authority: Authority,
  entries: readonly IdentityEntry[],
  removed: ReadonlySet<string>,
): Promise<void> {
  const holders = new Map<string, string>();
  const faults: string[] = [];
  const kept = new Map(entries.map((entry) => [entry.id, new Set(entry.keys)]));
  for (const [index, entry] of entries.entries()) {
    if (index % slice === slice - 1) await otherWork();
    for (const key of entry.keys) {
      const other = holders.get(key) ?? (await holderInStore(authority, key, entry.id, kept, removed));
      if (other !== undefined && other !== entry.id) faults.push(`${entry.id}: key ${key} belongs to ${other}`);
      else holders.set(key, entry.id);
    }
  }
  if (faults.length > 0)
    throw new AppError(
      "key-in-use",
      `One key belongs to one identity. ${listed(faults, "; ")}. Make a new key for each`,
    );
}

/** Found before leaves of the pruned are revoked, which nothing takes back. One that is on the list already may stay there. */
async function refuseBlockedKeys(
  authority: Authority,
  entries: readonly IdentityEntry[],
  present: ReadonlyMap<string, IdentityRow>,
): Promise<void> {
  const faults: string[] = [];
  for (const [index, { id, keys }] of entries.entries()) {
    if (index % slice === slice - 1) await otherWork();
    const listedNow = present.get(id)?.keys ?? [];
    for (const key of keys) {
      if (!listedNow.includes(key) && (await authority.store.isKeyBlocked(key))) faults.push(`${id}: key ${key}`);
    }
  }
  if (faults.length > 0)
    throw new AppError("key-blocked", `Reported compromised: ${listed(faults, "; ")}. Make a new key for each`);
}

/** Who keeps the key when the inventory is applied; undefined when nobody but `asking` does. */
async function holderInStore(
  authority: Authority,
  key: string,
  asking: string,
  kept: ReadonlyMap<string, ReadonlySet<string>>,
  removed: ReadonlySet<string>,
): Promise<string | undefined> {
  const known = await authority.store.findKey(key);
  if (known === null || known.identity === asking) return undefined;
  const givesUp = removed.has(known.identity) || kept.get(known.identity)?.has(key) === false;
  return givesUp && !known.issued ? undefined : known.identity;
}

/** @param remaining ids that stay when the rest is pruned; null: all others do */
async function sharedNames(
  authority: Authority,
  entries: readonly IdentityEntry[],
  remaining: ReadonlySet<string> | null,
): Promise<string[]> {
  const inFile = new Map(entries.map((entry) => [entry.id, entry]));
  const holders = new Map<string, Set<string>>();
  const note = (name: string, id: string) => {
    const known = holders.get(name);
    if (known === undefined) holders.set(name, new Set([id]));
    else known.add(id);
  };
  for (const [index, { id, names }] of entries.entries()) {
    if (index % slice === slice - 1) await otherWork();
    // Each name is looked up once, however many of the file hold it.
    const isNew = (name: string) => !holders.has(name);
    const unasked: Names = {
      dns: names.dns.filter(isNew),
      ip: names.ip.filter(isNew),
      uri: names.uri.filter(isNew),
      email: names.email.filter(isNew),
    };
    for (const name of Object.values(names).flat()) note(name, id);
    for (const { identity, name } of await authority.store.findNameSharers(id, unasked)) {
      // Of those that the file lists, the file says which names they will have.
      if (!inFile.has(identity) && (remaining === null || remaining.has(identity))) note(name, identity);
    }
  }
  return [...holders]
    .filter(([, ids]) => ids.size > 1)
    .map(([name, ids]) => {
      const more = ids.size > maxNamed ? ` and ${ids.size - maxNamed} more` : "";
      return `${name} is shared by ${[...ids].slice(0, maxNamed).join(", ")}${more}`;
    });
}

/** At most `maxFaults`, and how many there are besides. */
function listed(faults: readonly string[], between: string): string {
  const more = faults.length > maxFaults ? `${between}and ${faults.length - maxFaults} more` : "";
  return `${faults.slice(0, maxFaults).join(between)}${more}`;
}
