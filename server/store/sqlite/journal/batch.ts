import type { JournalStore } from "../../journal.ts";
import type { JournalAppender } from "../../journal/appender.ts";
import { commandText, formatLine } from "../../journal/line.ts";
import type { ChainTail } from "../../audit.ts";
import type { Command, WriteContext, WriteName } from "../commands.ts";
import { journalPositions, schemaVersion } from "./position.ts";

/**
 * Writes that no restore needs: what agents say of themselves they say again, a ping changes nothing that counts, and a cut is the
 * journal's own. Everything else goes into the journal before it is committed.
 */
export const unjournaled: ReadonlySet<WriteName> = new Set(["cutJournal", "ping", "recordReport", "recordSeen"]);

/** The journal's part in one batch of commands: `collect` each that succeeded, `seal` before COMMIT. */
export interface BatchJournal {
  /** Before the command runs, so that one that cannot be written down fails alone. @throws TypeError */
  readonly spell: (command: Command) => string | null;
  /**
   * Writes the line of the batch, and with it the database's position. Answers how to take it back should the commit fail.
   * @throws JournalFault when it cannot be written
   */
  readonly seal: (spelled: readonly string[], audit: ChainTail) => () => void;
}

/** Appends each batch's line; what the database says of its position is read in the same transaction. */
export function batchJournal({ database }: WriteContext, appender: JournalAppender): BatchJournal {
  const positions = journalPositions(database);
  const schema = schemaVersion(database);
  return {
    spell([name, given]) {
      return unjournaled.has(name) ? null : commandText(name, given);
    },
    seal(spelled, audit) {
      if (spelled.length === 0) return nothingToUndo;
      const last = positions.read();
      if (last === null) throw new Error("The database has no place in the journal.");
      const at = Date.now();
      const n = last.n + 1;
      const line = { journal: last.journal, n, at, schema, audit, previous: last.hash };
      const { text, hash } = formatLine(line, spelled);
      positions.advance(n, hash);
      appender.append({ text, n, previous: last.hash, hash, at });
      return appender.undo;
    },
  };
}

/** Without a journal: a database that had one notes that its journal lacks something from now on. */
export function withoutJournal({ database }: WriteContext): BatchJournal {
  const positions = journalPositions(database);
  const row = positions.read();
  let mustLapse = row !== null && !row.lapsed;
  return {
    // Only whether there is something matters.
    spell: ([name]) => (unjournaled.has(name) ? null : ""),
    seal(spelled) {
      if (!mustLapse || spelled.length === 0) return nothingToUndo;
      positions.lapse();
      mustLapse = false;
      return () => {
        mustLapse = true;
      };
    },
  };
}

const nothingToUndo = (): void => {};

/** `cutJournal` and the journal's side of `ping`, as they run in the writer. */
export function journalWrites({ database, journal }: WriteContext): {
  readonly cutJournal: () => Awaited<ReturnType<JournalStore["cutJournal"]>>;
  readonly probe: () => void;
} {
  const positions = journalPositions(database);
  return {
    cutJournal() {
      const row = positions.read();
      if (journal === null || row === null) return null;
      journal.cut();
      return { journal: row.journal, n: row.n, hash: row.hash };
    },
    probe() {
      journal?.probe();
    },
  };
}
