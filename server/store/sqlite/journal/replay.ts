/** Carries a journal out on a copy of the database: what a restore does with what happened after the backup. */
import { AppError } from "@newleaf/shared/problems";
import type { JournalPosition } from "../../journal.ts";
import type { JournalLine } from "../../journal/line.ts";
import { type PlacedLine, readJournal } from "../../journal/segments.ts";
import { perform } from "../batch.ts";
import { unjournaled } from "./batch.ts";
import { type Command, storeWrites, type WriteContext, writeContext, writeNames } from "../commands.ts";
import { checkpoint, openForReading, openForWriting } from "../database.ts";
import { journalPositions } from "./position.ts";
import { migrate, readMigrations } from "../migrations.ts";

export interface ReplayOptions {
  /** A database file that nobody else has open. Its schema is brought up to date first. */
  readonly database: string;
  /** Of the journal; it is only read. */
  readonly directory: string;
  /** What the backup's manifest says; must be the database's own position. */
  readonly from?: JournalPosition;
}

export interface ReplayResult {
  readonly lines: number;
  readonly commands: number;
  /** How often each command was carried out. */
  readonly byCommand: Readonly<Record<string, number>>;
  /** By the host's clock, when the last line was written; null when there was none. */
  readonly lastAt: number | null;
  /** Where the database stands now. */
  readonly position: JournalPosition;
  /** Null: everything the journal has is in the database. Else why it went no further, naming file and line: what comes after is missing. */
  readonly stopped: string | null;
}

/** Lines in one transaction. */
const linesTogether = 200;

/**
 * Carries out every line after the database's position, in order, with the same code as the writer. After each the audit chain must end as
 * it did then; a line that does not come out the same is not applied, nor is anything after it (`stopped`).
 *
 * @throws AppError conflict when the database has no position, or another one than `from`, or the directory's journal is another one
 */
export function replayJournal({ database: path, directory, from }: ReplayOptions): ReplayResult {
  const database = openForWriting(path);
  try {
    // Nobody is answered before the end, where it is fsynced once.
    database.pragma("synchronous = OFF");
    migrate(database, readMigrations(), Date.now());
    const context = writeContext(database);
    const start = startOf(context, path, from);
    const tally: Tally = { lines: 0, commands: 0, byCommand: new Map(), lastAt: null };
    const apply = lineApplier(context);
    const lines = readJournal(directory, start);
    let outcome: Outcome = { more: true, stopped: null };
    while (outcome.more) {
      database.exec("BEGIN IMMEDIATE");
      context.audit.begin();
      for (let count = 0; count < linesTogether && outcome.more; count++) outcome = applyNext(lines, apply, tally);
      database.exec("COMMIT");
    }
    const { stopped } = outcome;
    database.pragma("synchronous = FULL");
    checkpoint(database, "PASSIVE");
    const position = journalPositions(database).read() ?? start;
    return {
      lines: tally.lines,
      commands: tally.commands,
      byCommand: Object.fromEntries(tally.byCommand),
      lastAt: tally.lastAt,
      position: { journal: position.journal, n: position.n, hash: position.hash },
      stopped,
    };
  } finally {
    database.close();
  }
}

/**
 * Where a database stands in its journal, by the file alone: for a backup's manifest, read from the copy.
 * @returns null when it never had a journal
 */
export function journalPositionOf(path: string): JournalPosition | null {
  const database = openForReading(path);
  try {
    const row = journalPositions(database).read();
    return row === null ? null : { journal: row.journal, n: row.n, hash: row.hash };
  } finally {
    database.close();
  }
}

type ApplyLine = (line: JournalLine) => void;

interface Tally {
  lines: number;
  commands: number;
  byCommand: Map<string, number>;
  lastAt: number | null;
}

interface Outcome {
  readonly more: boolean;
  /** Why it goes no further, when it is not the end of the journal. */
  readonly stopped: string | null;
}

function stop(why: string): Outcome {
  return { more: false, stopped: why };
}

function applyNext(lines: Iterator<PlacedLine>, apply: ApplyLine, tally: Tally): Outcome {
  let placed: IteratorResult<PlacedLine>;
  try {
    placed = lines.next();
  } catch (error) {
    if (error instanceof AppError) return stop(error.message);
    throw error;
  }
  if (placed.done === true) return { more: false, stopped: null };
  const { line, segment, number } = placed.value;
  if (line.base !== undefined) {
    return stop(
      `${segment.path}, line ${number}: the journal begins anew there (${line.base}); what happened before it is in no journal.`,
    );
  }
  try {
    apply(line);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return stop(`${segment.path}, line ${number}: it cannot be carried out again: ${why}`);
  }
  tally.lines += 1;
  tally.lastAt = line.at;
  for (const [name] of line.commands) {
    tally.commands += 1;
    tally.byCommand.set(name, (tally.byCommand.get(name) ?? 0) + 1);
  }
  return { more: true, stopped: null };
}

/**
 * Carries out one line in the transaction that is open, or leaves no trace of it.
 * @throws Error saying what did not come out as it did then
 */
export function lineApplier(context: WriteContext): ApplyLine {
  const writes = storeWrites(context);
  const positions = journalPositions(context.database);
  const inSavepoint = context.database.transaction((line: JournalLine) => {
    for (const command of line.commands) perform(writes, knownCommand(command));
    const { seq, hash } = context.audit.tail();
    if (seq !== line.audit.seq || hash !== line.audit.hash) {
      throw new Error(
        `the audit log ends at row ${seq} (${hash.slice(0, 16)}…) and not at row ${line.audit.seq} (${line.audit.hash.slice(0, 16)}…) as it did then`,
      );
    }
    positions.advance(line.n, line.hash);
  });
  return (line) => {
    const tail = context.audit.tail();
    try {
      inSavepoint(line);
    } catch (error) {
      context.audit.rewind(tail);
      throw error;
    }
  };
}

const names: ReadonlySet<string> = new Set(writeNames);

function knownCommand(command: JournalLine["commands"][number]): Command {
  const [name] = command;
  if (!names.has(name) || [...unjournaled].some((each) => each === name)) {
    throw new Error(`this version of Newleaf does not know the write "${name.slice(0, 60)}"; a newer one wrote it`);
  }
  return command as unknown as Command;
}

function startOf({ database }: WriteContext, path: string, from: JournalPosition | undefined): JournalPosition {
  const row = journalPositions(database).read();
  if (row === null) {
    throw new AppError("conflict", `The database ${path} never had a journal: there is nothing that could follow it.`);
  }
  if (row.lapsed) {
    throw new AppError(
      "conflict",
      `The database ${path} was written to without its journal: the journal does not follow it.`,
    );
  }
  if (from !== undefined && (from.journal !== row.journal || from.n !== row.n || from.hash !== row.hash)) {
    throw new AppError(
      "conflict",
      `The database ${path} stands at line ${row.n} of journal ${row.journal}, and not at line ${from.n} of ${from.journal}.`,
    );
  }
  return { journal: row.journal, n: row.n, hash: row.hash };
}
