import { AppError } from "@newleaf/shared/problems";
import type { IdentityEntry, IdentityRow, IdentityStore, InventoryChange, Names, Role } from "../identities.ts";
import { StaleBasis } from "../store.ts";
import { adminGuard } from "./admins.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { readIdentityPage } from "./identity-list.ts";
import { approverOf, keyApproval, keyReads } from "./keys.ts";
import { mapPage } from "./pages.ts";

interface StoredIdentity extends Omit<IdentityRow, "names" | "labels" | "keys" | "owner" | "notes"> {
  /** JSON texts. */
  readonly names: string;
  readonly labels: string;
  readonly keys: string;
  readonly owner: string | null;
  readonly notes: string | null;
}

const kinds = ["dns", "ip", "uri", "email"] as const;

const columns = `i.id, i.profile, i.state, i.revision, i.role, i.created_at AS createdAt, i.updated_at AS updatedAt,
    i.names, i.labels, i.owner, i.notes, s.last_seen_at AS lastSeenAt,
    (SELECT json_group_array(fingerprint) FROM
       (SELECT fingerprint FROM keys WHERE identity = i.id AND position IS NOT NULL ORDER BY position)) AS keys`;
const tables = (on: string) => `identities i${on} LEFT JOIN sightings s ON s.identity = i.id`;

export function identityReads(
  database: Connection,
): Pick<IdentityStore, "findIdentity" | "listIdentities" | "findKey" | "listKeys" | "findNameSharers"> {
  const { findKey, listKeys } = keyReads(database);
  const byId = prepare<[string], StoredIdentity>(database, `SELECT ${columns} FROM ${tables("")} WHERE i.id = ?`);
  const sharers = prepare<[string, string, string], { identity: string; name: string }>(
    database,
    `SELECT n.identity, n.name FROM identity_names n JOIN identities i ON i.id = n.identity
     WHERE n.name = ? AND n.kind = ? AND n.identity <> ? AND i.state = 'active' ORDER BY n.identity`,
  );
  return {
    findKey,
    listKeys,
    async findIdentity(id) {
      const row = byId.get(id);
      return row === undefined ? null : toIdentity(row);
    },
    async listIdentities(request) {
      const shape = { columns, join: tables(" ON i.id = found.key") };
      return mapPage(readIdentityPage<StoredIdentity>(database, request, shape), toIdentity);
    },
    async findNameSharers(id, names) {
      return kinds.flatMap((kind) => names[kind].flatMap((name) => sharers.all(name, kind, id)));
    },
  };
}

export function identityWrites(
  context: WriteContext,
): Pick<Writes, "changeInventory" | "setIdentityState" | "rearmKeys"> {
  const { database } = context;
  const keys = keyApproval(database);
  const applyEntry = entryApplier(database);
  const requireAdminLeft = adminGuard(database);
  const find = prepare<[string], { state: string }>(database, "SELECT state FROM identities WHERE id = ?");
  const setState = prepare(
    database,
    "UPDATE identities SET state = ?, revision = revision + 1, updated_at = ? WHERE id = ? AND state <> ?",
  );
  const mustExist = (id: string) => {
    const state = find.get(id)?.state;
    if (state === undefined || state === "removed") {
      throw new AppError("identity-unknown", `There is no identity ${id} in the inventory.`);
    }
  };
  return {
    changeInventory(changes, at, audit) {
      // What leaves a list goes first, so that a key can move from one identity to another in one step.
      for (const change of changes) {
        if (change.kind === "remove") keys.drop(change.id, []);
        if (change.kind === "change") keys.drop(change.entry.id, change.entry.keys);
      }
      for (const change of changes) applyEntry(change, at);
      for (const change of changes)
        if (change.kind !== "remove") keys.approve(change.entry.id, change.entry.keys, approverOf(audit));
      context.audit.append(audit);
    },
    setIdentityState(id, state, at, audit) {
      mustExist(id);
      if (state === "suspended") requireAdminLeft(id, at);
      if (setState.run(state, at, id, state).changes === 1) context.audit.append(audit);
    },
    rearmKeys(id, _at, audit) {
      mustExist(id);
      keys.rearm(id, approverOf(audit));
      context.audit.append(audit);
    },
  };
}

/** Adds one identity with its names and keys. */
export function identityAdder(database: Connection): (entry: IdentityEntry, role: Role | null, at: number) => void {
  const keys = keyApproval(database);
  const applyEntry = entryApplier(database);
  return (entry, role, at) => {
    applyEntry({ kind: "add", entry, ...(role === null ? {} : { role }) }, at);
    keys.approve(entry.id, entry.keys, null);
  };
}

/** One change without its keys. */
function entryApplier(database: Connection): (change: InventoryChange, at: number) => void {
  const add = prepare(
    database,
    `INSERT INTO identities (id, profile, state, revision, role, created_at, updated_at, names, labels, owner, notes, search)
     VALUES (?, ?, 'active', 1, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET profile = excluded.profile, state = 'active', revision = revision + 1, role = excluded.role,
       updated_at = excluded.updated_at, names = excluded.names, labels = excluded.labels, owner = excluded.owner,
       notes = excluded.notes, search = excluded.search WHERE state = 'removed'`,
  );
  const change = prepare(
    database,
    `UPDATE identities SET profile = ?, revision = revision + 1, updated_at = ?, names = ?, labels = ?, owner = ?, notes = ?, search = ?
     WHERE id = ? AND revision = ? AND state <> 'removed'`,
  );
  const remove = prepare(
    database,
    `UPDATE identities SET state = 'removed', revision = revision + 1, updated_at = ?
     WHERE id = ? AND revision = ? AND state <> 'removed'`,
  );
  const usable = prepare<[string, number], number>(
    database,
    `SELECT 1 FROM certificates
     WHERE identity = ? AND not_after > ? AND state IN ('pending', 'current', 'superseded') LIMIT 1`,
  ).pluck();
  const closeGivenOut = givenOutCloser(database);
  const dropNames = prepare(database, "DELETE FROM identity_names WHERE identity = ?");
  const addName = prepare(database, "INSERT INTO identity_names (identity, kind, name) VALUES (?, ?, ?)");
  const dropLabels = prepare(database, "DELETE FROM identity_labels WHERE identity = ?");
  const addLabel = prepare(database, "INSERT INTO identity_labels (key, value, identity) VALUES (?, ?, ?)");
  const index = ({ id, names, labels }: IdentityEntry) => {
    dropNames.run(id);
    for (const kind of kinds) for (const name of names[kind]) addName.run(id, kind, name);
    dropLabels.run(id);
    for (const [key, value] of Object.entries(labels)) addLabel.run(key, value, id);
  };
  const requireAdminLeft = adminGuard(database);
  return (step, at) => {
    if (step.kind === "remove") {
      requireAdminLeft(step.id, at);
      // Its leaves were revoked first; one that was issued since would come back to life with an identity of the same name.
      if (usable.get(step.id, at) !== undefined) throw moved(step.id);
      if (remove.run(at, step.id, step.basisRevision).changes !== 1) throw moved(step.id);
      closeGivenOut(step.id, at);
      return;
    }
    const { entry } = step;
    const { dns, ip, uri, email } = entry.names;
    const names = JSON.stringify({ dns, ip, uri, email });
    const words = [names, JSON.stringify(entry.labels), entry.owner ?? null, entry.notes ?? null, searchText(entry)];
    if (step.kind === "add") {
      if (add.run(entry.id, entry.profile, step.role ?? null, at, at, ...words).changes !== 1) {
        throw new AppError("conflict", `There is an identity ${entry.id} already; change it instead.`);
      }
    } else if (change.run(entry.profile, at, ...words, entry.id, step.basisRevision).changes !== 1) {
      throw moved(entry.id);
    }
    index(entry);
  };
}

/** What was given out for an identity, or agreed to, must not admit anybody to a later one of the same name. */
function givenOutCloser(database: Connection): (id: string, at: number) => void {
  const closeTokens = prepare(
    database,
    "UPDATE tokens SET revoked_at = ? WHERE identity = ? AND spent_at IS NULL AND revoked_at IS NULL",
  );
  const closeGrants = prepare(
    database,
    "UPDATE grants SET expires_at = ? WHERE identity = ? AND spent_at IS NULL AND expires_at > ?",
  );
  // Yeses are few, where requests of strangers may be many.
  const dropYeses = prepare(
    database,
    `DELETE FROM approvals WHERE identity = ? AND how = 'approval'
     AND EXISTS (SELECT 1 FROM requests r WHERE r.id = approvals.request AND r.state = 'pending')`,
  );
  return (id, at) => {
    closeTokens.run(at, id);
    closeGrants.run(at, id, at);
    dropYeses.run(id);
  };
}

/** What `q` finds it by, one a line. */
function searchText({ id, names, labels, owner }: IdentityEntry): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  const lines = [id, ...kinds.flatMap((kind) => names[kind]), ...pairs, ...(owner === undefined ? [] : [owner])];
  return lines.join("\n").toLowerCase();
}

function moved(id: string): StaleBasis {
  return new StaleBasis(`Identity ${id} changed after the decision.`);
}

function toIdentity({ owner, notes, ...row }: StoredIdentity): IdentityRow {
  return {
    ...row,
    ...(owner === null ? {} : { owner }),
    ...(notes === null ? {} : { notes }),
    names: JSON.parse(row.names) as Names,
    labels: JSON.parse(row.labels) as Record<string, string>,
    keys: JSON.parse(row.keys) as string[],
  };
}
