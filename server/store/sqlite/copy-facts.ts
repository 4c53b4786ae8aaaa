/** What a copy of the database is and holds. Copies are plain files without a log beside them: nothing is written to look at one. */
import { type AuditVerdict, genesisHash, verifyAuditChain } from "../../audit-chain.ts";
import type { CrlRecord, IssuerRow } from "../issuers.ts";
import type { JournalPosition } from "../journal.ts";
import type { CopyFacts } from "../restores.ts";
import { auditReads } from "./audit.ts";
import { type Connection, openForReading } from "./database.ts";
import { storedIssuers } from "./issuers.ts";
import { readMigrations } from "./migrations.ts";

const rowsAtOnce = 10_000;

/**
 * SQLite's own judgement: null, or the first faults it found.
 * @param path a closed database file
 */
export function findFault(path: string): string | null {
  return onCopy(path, (database) => {
    const integrity = database.pragma("integrity_check(5)") as { readonly integrity_check: string }[];
    const faults = integrity.map((row) => row.integrity_check).filter((line) => line !== "ok");
    if (faults.length > 0) return faults.join("; ");
    const [orphan] = database.pragma("foreign_key_check") as { readonly table: string; readonly rowid: number }[];
    return orphan === undefined ? null : `row ${orphan.rowid} of ${orphan.table} refers to nothing`;
  });
}

/** Whether this version knows the schema; if not, why. */
export function judgeSchema(path: string): { readonly known: boolean; readonly detail: string } {
  const shipped = readMigrations();
  return onCopy(path, (database) => {
    const applied = database
      .prepare<[], { version: number; name: string; sha256: string }>(
        "SELECT version, name, sha256 FROM migrations ORDER BY version",
      )
      .all();
    for (const row of applied) {
      const known = shipped[row.version - 1];
      if (known === undefined) {
        return {
          known: false,
          detail: `it holds migration ${row.version} (${row.name}): a newer version of Newleaf made it`,
        };
      }
      if (known.sha256 !== row.sha256)
        return { known: false, detail: `its migration ${row.version} (${row.name}) is not the one of this version` };
    }
    const missing = shipped.length - applied.length;
    return {
      known: true,
      detail:
        missing === 0 ? `schema ${applied.length}` : `schema ${applied.length}, which a restore brings up to date`,
    };
  });
}

/** @throws SqliteError when it is no database, or not Newleaf's */
export function readCopyFacts(path: string): CopyFacts {
  return onCopy(path, (database) => {
    const number = (sql: string) => database.prepare<[], number>(sql).pluck().get() ?? 0;
    const names = database
      .prepare<[], string>(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1",
      )
      .pluck()
      .all();
    const tables = Object.fromEntries(names.map((name) => [name, number(`SELECT count(*) FROM "${name}"`)]));
    const crls = database
      .prepare<[], { issuer: string; number: number }>(
        "SELECT issuer_id AS issuer, max(number) AS number FROM crls GROUP BY issuer_id ORDER BY issuer_id",
      )
      .all();
    const tail = database
      .prepare<[], CopyFacts["audit"]>("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
      .get();
    return {
      schema: number("SELECT max(version) FROM migrations"),
      tables,
      audit: tail ?? { seq: 0, hash: genesisHash },
      crls: Object.fromEntries(crls.map(({ issuer, number: newest }) => [issuer, newest])),
      bundleVersion: number("SELECT max(version) FROM bundles"),
      journal: readJournalPosition(database, names),
      restores: tables["restores"] ?? 0,
    };
  });
}

/** The CA certificates, and of each the newest CRL. */
export function readCopiedIssuers(path: string): {
  readonly issuers: readonly IssuerRow[];
  readonly crls: readonly CrlRecord[];
} {
  return onCopy(path, (database) => ({
    issuers: storedIssuers(database).all(),
    crls: database
      .prepare<[], CrlRecord>(
        `SELECT issuer_id AS issuerId, max(number) AS number, this_update AS thisUpdate, next_update AS nextUpdate, der
         FROM crls GROUP BY issuer_id`,
      )
      .all(),
  }));
}

/** Checks the copy's audit chain from its first row to its last, without holding it all. */
export async function verifyCopiedChain(path: string): Promise<AuditVerdict> {
  const database = openForReading(path);
  try {
    const { readAuditChain } = auditReads(database);
    let end = { rows: 0, lastSeq: 0, lastHash: genesisHash };
    while (true) {
      const rows = await readAuditChain(end.lastSeq, rowsAtOnce);
      if (rows.length === 0) return { ok: true, ...end };
      const first = rows[0]?.seq ?? 0;
      if (first !== end.lastSeq + 1) {
        return { ok: false, seq: first, reason: `it follows row ${end.lastSeq}: rows are missing or out of order` };
      }
      const verdict = verifyAuditChain(rows, end.lastHash);
      if (!verdict.ok) return verdict;
      end = { rows: end.rows + verdict.rows, lastSeq: verdict.lastSeq ?? 0, lastHash: verdict.lastHash };
    }
  } finally {
    database.close();
  }
}

function readJournalPosition(database: Connection, tables: readonly string[]): JournalPosition | null {
  if (!tables.includes("journal")) return null;
  const row = database
    .prepare<[], JournalPosition & { lapsed: 0 | 1 }>("SELECT id AS journal, n, hash, lapsed FROM journal")
    .get();
  // What was written without the journal cannot be had from it: there is no place to go on from.
  return row === undefined || row.lapsed === 1 ? null : { journal: row.journal, n: row.n, hash: row.hash };
}

function onCopy<T>(path: string, look: (database: Connection) => T): T {
  const database = openForReading(path);
  try {
    return look(database);
  } finally {
    database.close();
  }
}
