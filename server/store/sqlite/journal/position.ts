import type { JournalPosition } from "../../journal.ts";
import { type Connection, prepare } from "../database.ts";

/** What the database knows of its journal. */
export interface StoredPosition extends JournalPosition {
  /** The newest line at which the journal began anew. */
  readonly base: number;
  /** Something was written since that the journal does not have. */
  readonly lapsed: boolean;
}

interface PositionRow extends Omit<StoredPosition, "lapsed"> {
  readonly lapsed: 0 | 1;
}

export interface JournalPositions {
  readonly read: () => StoredPosition | null;
  /** In the transaction that carries the line out. */
  readonly advance: (n: number, hash: string) => void;
  /** A journal begins, or begins anew: with line `base` of it. */
  readonly begin: (position: JournalPosition) => void;
  /** Something is written that goes into no journal. */
  readonly lapse: () => void;
}

/** Where this database stands in its journal. */
export function journalPositions(database: Connection): JournalPositions {
  const read = prepare<[], PositionRow>(database, 'SELECT id AS "journal", n, hash, base, lapsed FROM journal');
  const advance = prepare(database, "UPDATE journal SET n = ?, hash = ?");
  const begin = prepare(
    database,
    `INSERT INTO journal (no, id, n, hash, base, lapsed) VALUES (1, ?, ?, ?, ?, 0)
     ON CONFLICT (no) DO UPDATE SET id = excluded.id, n = excluded.n, hash = excluded.hash, base = excluded.base, lapsed = 0`,
  );
  const lapse = prepare(database, "UPDATE journal SET lapsed = 1");
  return {
    read() {
      const row = read.get();
      return row === undefined ? null : { ...row, lapsed: row.lapsed === 1 };
    },
    advance: (n, hash) => void advance.run(n, hash),
    begin: ({ journal, n, hash }) => void begin.run(journal, n, hash, n),
    lapse: () => void lapse.run(),
  };
}

/** Number of the newest migration that was applied. */
export function schemaVersion(database: Connection): number {
  return database.prepare<[], number>("SELECT max(version) FROM migrations").pluck().get() ?? 0;
}
