import { AppError } from "@newleaf/shared/problems";
import type { AuditEntry } from "../audit.ts";
import type { KeyRow } from "../identities.ts";
import { StaleBasis } from "../store.ts";
import { type Connection, prepare } from "./database.ts";

interface StoredKey extends Omit<KeyRow, "approved" | "armed" | "issued"> {
  readonly approved: 0 | 1;
  readonly armed: 0 | 1;
  readonly issued: 0 | 1;
}

/** To be followed by a WHERE over `k` (keys). */
const select = `SELECT k.fingerprint, k.identity, k.position IS NOT NULL AS approved, k.armed, k.issued, b.blocked_at AS blockedAt,
    k.approved_by AS approvedBy
  FROM keys k LEFT JOIN blocked_keys b ON b.fingerprint = k.fingerprint`;

export interface KeyReads {
  readonly findKey: (fingerprint: string) => Promise<KeyRow | null>;
  readonly listKeys: (identity: string) => Promise<readonly KeyRow[]>;
  readonly isKeyBlocked: (fingerprint: string) => Promise<boolean>;
}

export function keyReads(database: Connection): KeyReads {
  // A key that was taken off its identity's list and never issued for belongs to nobody.
  const byFingerprint = prepare<[string], StoredKey>(
    database,
    `${select} WHERE k.fingerprint = ? AND (k.position IS NOT NULL OR k.issued = 1 OR b.fingerprint IS NOT NULL)`,
  );
  const ofIdentity = prepare<[string], StoredKey>(
    database,
    `${select} WHERE k.identity = ? ORDER BY k.position IS NULL, k.position, k.no`,
  );
  const blocked = prepare<[string], number>(database, "SELECT 1 FROM blocked_keys WHERE fingerprint = ?").pluck();
  return {
    async findKey(fingerprint) {
      const row = byFingerprint.get(fingerprint);
      return row === undefined ? null : toKey(row);
    },
    listKeys: async (identity) => ofIdentity.all(identity).map(toKey),
    isKeyBlocked: async (fingerprint) => blocked.get(fingerprint) !== undefined,
  };
}

/** Notes that a leaf is issued for a key, which belongs to that identity from now on. */
export function keyBinder(database: Connection): (fingerprint: string, identity: string) => void {
  const blocked = blockedChecker(database);
  const bind = prepare(
    database,
    `INSERT INTO keys (fingerprint, identity, armed, issued) VALUES (?, ?, 0, 1)
     ON CONFLICT (fingerprint) DO UPDATE SET identity = excluded.identity, issued = 1
       WHERE identity = excluded.identity OR (position IS NULL AND issued = 0)`,
  );
  return (fingerprint, identity) => {
    if (blocked(fingerprint)) throw keyBlocked(fingerprint);
    if (bind.run(fingerprint, identity).changes !== 1) throw keyInUse(fingerprint);
  };
}

/** Spends the one enrollment that an approved fingerprint admits. */
export function keyDisarmer(database: Connection): (fingerprint: string, identity: string) => void {
  const disarm = prepare(
    database,
    "UPDATE keys SET armed = 0 WHERE fingerprint = ? AND identity = ? AND position IS NOT NULL AND armed = 1",
  );
  return (fingerprint, identity) => {
    if (disarm.run(fingerprint, identity).changes !== 1) {
      throw new StaleBasis(`Key ${fingerprint} is no longer approved and unspent.`);
    }
  };
}

export interface KeyApproval {
  /** Takes every key off the identity's list that is not in `kept`. */
  readonly drop: (identity: string, kept: readonly string[]) => void;
  /** Makes `list` the identity's approved keys, in this order. */
  readonly approve: (identity: string, list: readonly string[], by: string | null) => void;
  /** Arms every approved, unblocked key again. */
  readonly rearm: (identity: string, by: string | null) => void;
}

/**
 * The inventory's side of keys. A key that is new to its identity is armed. One that was issued for, or is on the list already, is
 * not: applying the same inventory twice must not admit a second enrollment. A key that was listed under another identity, taken
 * off there and never issued for is free.
 */
export function keyApproval(database: Connection): KeyApproval {
  const listed = prepare<[string], string>(
    database,
    "SELECT fingerprint FROM keys WHERE identity = ? AND position IS NOT NULL",
  ).pluck();
  const unlist = prepare(database, "UPDATE keys SET position = NULL, armed = 0 WHERE fingerprint = ?");
  const find = prepare<[string], { identity: string; position: number | null; issued: 0 | 1 }>(
    database,
    "SELECT identity, position, issued FROM keys WHERE fingerprint = ?",
  );
  const put = prepare(
    database,
    `INSERT INTO keys (fingerprint, identity, position, armed, issued, approved_by) VALUES (?, ?, ?, 1, 0, ?)
     ON CONFLICT (fingerprint) DO UPDATE SET identity = excluded.identity, position = excluded.position, armed = 1,
       approved_by = excluded.approved_by`,
  );
  const place = prepare(database, "UPDATE keys SET position = ? WHERE fingerprint = ?");
  const arm = prepare(
    database,
    `UPDATE keys SET armed = 1, approved_by = ? WHERE identity = ? AND position IS NOT NULL
       AND fingerprint NOT IN (SELECT fingerprint FROM blocked_keys)`,
  );
  const blocked = blockedChecker(database);
  return {
    drop(identity, kept) {
      for (const fingerprint of listed.all(identity)) if (!kept.includes(fingerprint)) unlist.run(fingerprint);
    },
    approve(identity, list, by) {
      for (const [position, fingerprint] of list.entries()) {
        const known = find.get(fingerprint);
        const free = known === undefined || (known.position === null && known.issued === 0);
        if (!free && known.identity !== identity) throw keyInUse(fingerprint);
        if (known?.position == null && blocked(fingerprint)) throw keyBlocked(fingerprint);
        if (free) put.run(fingerprint, identity, position, by);
        else place.run(position, fingerprint);
      }
    },
    rearm(identity, by) {
      arm.run(by, identity);
    },
  };
}

/** Keys reported compromised are never accepted again, nor is an enrollment by their fingerprint. */
export function keyBlocker(database: Connection): (fingerprint: string, at: number) => void {
  const block = prepare(
    database,
    "INSERT INTO blocked_keys (fingerprint, blocked_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
  );
  const disarm = prepare(database, "UPDATE keys SET armed = 0 WHERE fingerprint = ?");
  return (fingerprint, at) => {
    block.run(fingerprint, at);
    disarm.run(fingerprint);
  };
}

/** The operator behind an act, as its audit entries name him: who approves a key is who the log says did. */
export function approverOf(audit: readonly AuditEntry[]): string | null {
  const [entry] = audit;
  return entry?.actorKind === "operator" ? entry.actor : null;
}

function blockedChecker(database: Connection): (fingerprint: string) => boolean {
  const blocked = prepare<[string], number>(database, "SELECT 1 FROM blocked_keys WHERE fingerprint = ?").pluck();
  return (fingerprint) => blocked.get(fingerprint) !== undefined;
}

function keyBlocked(fingerprint: string): AppError {
  return new AppError("key-blocked", `Key ${fingerprint} was reported compromised; make a new key.`);
}

function keyInUse(fingerprint: string): AppError {
  return new AppError("key-in-use", `Key ${fingerprint} belongs to another identity; make a new key for this one.`);
}

function toKey(row: StoredKey): KeyRow {
  return { ...row, approved: row.approved === 1, armed: row.armed === 1, issued: row.issued === 1 };
}
