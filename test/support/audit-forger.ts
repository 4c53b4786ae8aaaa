/** Somebody who can write the database file of a stopped service: nothing in it holds him back. */
import { copyFileSync } from "node:fs";
import Database from "better-sqlite3";
import { auditHash, genesisHash } from "../../server/audit-chain.ts";
import type { AuditRow } from "../../server/store/audit.ts";
import { auditReads } from "../../server/store/sqlite/audit.ts";

export interface Forger extends Disposable {
  readonly path: string;
  sql(text: string, ...values: (string | number | null)[]): void;
  /** The rows as a verifier reads them. */
  rows(): Promise<readonly AuditRow[]>;
  /** Lines of the stored checkpoints. */
  checkpoints(): Promise<readonly string[]>;
  /** Carries a change on: hashes every row from this one to the end anew. */
  rehash(from: number): Promise<void>;
}

/** Opens a copy of the database at `path`, with its triggers gone. */
export function forger(original: string, path: string): Forger {
  copyFileSync(original, path);
  const database = new Database(path);
  const triggers = database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'trigger'").pluck().all();
  for (const name of triggers) database.exec(`DROP TRIGGER ${name}`);
  const reads = auditReads(database);
  return {
    path,
    sql: (text, ...values) => void database.prepare(text).run(...values),
    rows: () => reads.readAuditChain(0, 100_000),
    checkpoints: async () => (await reads.listCheckpoints(0, 100_000)).map(({ line }) => line),
    async rehash(from) {
      const rows = await reads.readAuditChain(0, 100_000);
      let previousHash = rows.find((row) => row.seq === from - 1)?.hash ?? genesisHash;
      for (const { hash: _hash, ...row } of rows.filter(({ seq }) => seq >= from)) {
        const hash = auditHash({ ...row, previousHash });
        database.prepare("UPDATE audit SET previous_hash = ?, hash = ? WHERE seq = ?").run(previousHash, hash, row.seq);
        previousHash = hash;
      }
    },
    [Symbol.dispose]: () => void database.close(),
  };
}
