/** What becomes of a journal and its database at start: usually nothing; after a crash the last line is done again; what does not fit is refused. */
import { randomBytes } from "node:crypto";
import { existsSync, ftruncateSync, fsyncSync, closeSync, lstatSync, openSync, statSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { makeDirectory } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import type { JournalEvent } from "../../journal.ts";
import { type AppendPoint, openAppender } from "../../journal/appender.ts";
import { formatLine, journalStart } from "../../journal/line.ts";
import { type JournalTail, listSegments, readTail, syncDirectoryNow } from "../../journal/segments.ts";
import type { ChainTail } from "../../audit.ts";
import { type WriteContext, writeContext } from "../commands.ts";
import { type Connection, openForWriting } from "../database.ts";
import { judgeJournal, type Verdict } from "./judge.ts";
import { journalPositions, schemaVersion, type StoredPosition } from "./position.ts";
import { lockJournal } from "../lock.ts";
import { lineApplier } from "./replay.ts";

export interface OpenJournal extends Disposable {
  /** Where the writer goes on. */
  readonly point: AppendPoint;
}

/**
 * Brings the journal in `directory` and the (migrated) database at `path` to the same line and holds the journal for this process.
 *
 * @throws AppError conflict when they do not belong together, the journal is damaged, others can write to it or another process does;
 * issuer-unavailable when the directory cannot be used
 */
export async function openJournal(
  path: string,
  directory: string,
  onEvent: (event: JournalEvent) => void,
): Promise<OpenJournal> {
  const database = openForWriting(path);
  try {
    const context = writeContext(database);
    await ensureDirectory(directory, journalPositions(database).read());
    const lock = await lockJournal(directory);
    try {
      refuseForeign(directory);
      if ((statSync(directory).mode & 0o077) !== 0) onEvent({ kind: "exposed", directory });
      return { point: reconcile(context, directory, onEvent), [Symbol.dispose]: () => lock[Symbol.dispose]() };
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  } catch (error) {
    throw error instanceof AppError ? error : unusable(directory, error);
  } finally {
    database.close();
  }
}

/**
 * Lines are carried out, at a start and by a restore: who can put one there has every right. Group members may write, as volumes with a
 * group of their own let them; files from a server that maps all users to one belong to whom the directory does.
 */
function refuseForeign(directory: string): void {
  const { mode, uid } = statSync(directory);
  if ((mode & 0o002) !== 0) {
    throw new AppError(
      "conflict",
      `Everybody on this host can write to the journal in ${directory}, and what stands there would be carried out. ` +
        "Look whether its files are the service's own, then: chmod 700 on it",
    );
  }
  for (const { path } of listSegments(directory)) {
    const file = lstatSync(path);
    const own = file.uid === uid || file.uid === process.geteuid?.();
    const fault = !file.isFile()
      ? "it is no file"
      : !own
        ? `it belongs to user ${file.uid}, who is neither this service's nor the directory's`
        : (file.mode & 0o002) !== 0
          ? "everybody can write to it"
          : null;
    if (fault !== null)
      throw new AppError(
        "conflict",
        `${path} may not be of this journal (${fault}); what stands in it is not carried out`,
      );
  }
}

/** A directory that was there and is gone is most likely not mounted: a new one would be on the wrong disk. */
async function ensureDirectory(directory: string, row: StoredPosition | null): Promise<void> {
  if (existsSync(directory)) return;
  if (row !== null || !existsSync(dirname(directory))) {
    throw new AppError(
      "issuer-unavailable",
      `There is no directory ${row === null ? dirname(directory) : directory} for the journal. Is what should be mounted there mounted? ` +
        "If the journal is lost for good, make the directory (0700); the service then begins it anew and needs a new backup.",
    );
  }
  await makeDirectory(directory, 0o700);
}

function reconcile(context: WriteContext, directory: string, onEvent: (event: JournalEvent) => void): AppendPoint {
  const positions = journalPositions(context.database);
  const row = positions.read();
  const tail = readTail(directory);
  const verdict = judgeJournal({ directory, row, tail, ...auditOf(context.database, tail) });
  // Only what nobody was told of is cut off: a line that the database has, and the journal has in part, is evidence.
  if (row === null || (tail !== null && row.n <= tail.link.n)) trim(directory, tail, onEvent);
  const here: AppendPoint = {
    directory,
    segment: tail?.segment.path ?? null,
    end: tail?.end ?? 0,
    lastBytes: tail === null ? 0 : tail.end - tail.start,
    lastHash: tail?.link.hash ?? journalStart,
  };
  switch (verdict.act) {
    case "continue":
      return here;
    case "adopt":
      inTransaction(context, () => positions.begin(verdict.position));
      return here;
    case "redo":
      redo(context, verdict.tail);
      onEvent({ kind: "redone", line: verdict.tail.link.n });
      return here;
    case "base":
      return begin(context, directory, verdict, onEvent);
  }
}

function redo(context: WriteContext, { line, segment }: JournalTail): void {
  const apply = lineApplier(context);
  try {
    inTransaction(context, () => apply(line));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AppError(
      "conflict",
      `The last line of the journal (${segment.path}, line ${line.n}) was written and not committed, and cannot be carried out again: ${why}. ` +
        "The database is not the one that this journal was written with; restore it with `newleaf backup restore`.",
      { cause: error },
    );
  }
}

/** Writes the line with which a journal begins, in a segment of its own. */
function begin(
  context: WriteContext,
  directory: string,
  { after, reason }: Extract<Verdict, { act: "base" }>,
  onEvent: (event: JournalEvent) => void,
): AppendPoint {
  const at = Date.now();
  const n = after.n + 1;
  const journal = after.journal ?? randomBytes(16).toString("hex");
  const schema = schemaVersion(context.database);
  const appender = openAppender({ directory, segment: null, end: 0, lastBytes: 0, lastHash: after.hash });
  try {
    inTransaction(
      context,
      () => {
        const audit = context.audit.tail();
        const base = { journal, n, at, schema, base: reason, audit, previous: after.hash };
        const { text, hash } = formatLine(base, []);
        journalPositions(context.database).begin({ journal, n, hash });
        appender.append({ text, n, previous: after.hash, hash, at });
      },
      appender.undo,
    );
  } finally {
    appender[Symbol.dispose]();
  }
  onEvent({ kind: "based", line: n, reason });
  return appender.point();
}

function inTransaction({ database, audit }: WriteContext, act: () => void, onFailedCommit?: () => void): void {
  database.exec("BEGIN IMMEDIATE");
  let isActed = false;
  try {
    audit.begin();
    act();
    isActed = true;
    database.exec("COMMIT");
  } catch (error) {
    if (database.inTransaction) database.exec("ROLLBACK");
    if (isActed) onFailedCommit?.();
    throw error;
  }
}

/** Removes what a crash cut off. */
function trim(directory: string, tail: JournalTail | null, onEvent: (event: JournalEvent) => void): void {
  if (tail !== null && tail.torn > 0) {
    const file = openSync(tail.segment.path, "r+");
    try {
      ftruncateSync(file, tail.end);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    onEvent({ kind: "trimmed", segment: tail.segment.path, bytes: tail.torn });
  }
  const remnants = tail?.remnants ?? listSegments(directory);
  for (const { path } of remnants) {
    onEvent({ kind: "trimmed", segment: path, bytes: statSync(path).size });
    unlinkSync(path);
  }
  if (remnants.length > 0) syncDirectoryNow(directory);
}

/** The end of the audit log, and what it has where the journal's last line says that it ended then. */
function auditOf(database: Connection, tail: JournalTail | null): { audit: ChainTail; auditThen: string | null } {
  const last = database.prepare<[], ChainTail>("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").get();
  const then = database
    .prepare<[number], string>("SELECT hash FROM audit WHERE seq = ?")
    .pluck()
    .get(tail?.line.audit.seq ?? 0);
  return { audit: last ?? { seq: 0, hash: journalStart }, auditThen: then ?? null };
}

function unusable(directory: string, error: unknown): AppError {
  const why = error instanceof Error ? error.message : String(error);
  return new AppError(
    "issuer-unavailable",
    `The journal in ${directory} cannot be used (${why}). Nothing is issued without it: check that the directory is mounted, writable and has room.`,
    { cause: error },
  );
}
