/** What a journal and a database that meet at start have to do with each other. Decides only. */
import { AppError } from "@newleaf/shared/problems";
import type { JournalPosition } from "../../journal.ts";
import { journalStart } from "../../journal/line.ts";
import type { JournalTail } from "../../journal/segments.ts";
import type { ChainTail } from "../../audit.ts";
import type { StoredPosition } from "./position.ts";

export interface Meeting {
  readonly directory: string;
  /** What the database says; null when it never had a journal. */
  readonly row: StoredPosition | null;
  /** What the directory holds; null for nothing. */
  readonly tail: JournalTail | null;
  /** The end of the database's audit log. */
  readonly audit: ChainTail;
  /** Hash of the audit row that was the last one when the journal's last line was written; null when the database has none such. */
  readonly auditThen: string | null;
}

export type Verdict =
  | { readonly act: "continue" }
  /** The database never got to know of the line with which the journal begins. */
  | { readonly act: "adopt"; readonly position: JournalPosition }
  /** The last line was written and never committed. */
  | { readonly act: "redo"; readonly tail: JournalTail }
  /** The journal begins, or begins anew, behind `after`. */
  | {
      readonly act: "base";
      readonly after: { readonly journal: string | null; readonly n: number; readonly hash: string };
      readonly reason: string;
    };

/** @throws AppError conflict when they do not belong together */
export function judgeJournal(meeting: Meeting): Verdict {
  const { row, tail } = meeting;
  if (tail === null) {
    return row === null
      ? { act: "base", after: { journal: null, n: 0, hash: journalStart }, reason: "the journal is new" }
      : { act: "base", after: row, reason: "the directory held no journal any more" };
  }
  if (row === null) return meetWithoutRow(meeting, tail);
  const { link, line } = tail;
  if (link.journal !== row.journal) throw foreign(meeting.directory);
  if (link.n > row.n + 1) throw setBack(meeting.directory, row, link);
  if (link.n < row.n) {
    return {
      act: "base",
      after: row,
      reason: `the journal ended with line ${link.n}, and the database had line ${row.n}`,
    };
  }
  const isNext = link.n === row.n + 1;
  if ((isNext ? link.previous : link.hash) !== row.hash) throw diverged(meeting.directory, row);
  // It may have been answered for: by the service that this database was restored from, after its journal was carried out.
  if (row.lapsed && isNext && line.base === undefined) throw setBack(meeting.directory, row, link);
  if (row.lapsed)
    return {
      act: "base",
      after: link,
      reason: "the database was written to without the journal, which was off, or by a restore",
    };
  if (isNext && line.base === undefined) return { act: "redo", tail };
  if (line.audit.seq !== meeting.audit.seq || line.audit.hash !== meeting.audit.hash) {
    return { act: "base", after: link, reason: "the database was changed without the journal" };
  }
  return isNext ? { act: "adopt", position: link } : { act: "continue" };
}

/** Right only when a crash came between the journal's first line and the commit that should have noted it. */
function meetWithoutRow({ directory, audit, auditThen }: Meeting, { link, line }: JournalTail): Verdict {
  const isOurs = line.audit.seq === 0 ? audit.seq === 0 : auditThen === line.audit.hash;
  if (link.n !== 1 || line.base === undefined || !isOurs) throw foreign(directory);
  return audit.seq === line.audit.seq
    ? { act: "adopt", position: link }
    : {
        act: "base",
        after: link,
        reason: "the database was written to without the journal, which was off, or by a restore",
      };
}

const restoreIt = "put the database back with `newleaf backup restore --journal`, which carries out what it lacks";

function foreign(directory: string): AppError {
  return new AppError(
    "conflict",
    `The journal in ${directory} was not written with this database. If it belongs to another service, give this one an empty directory of its own ` +
      `(journal: in newleaf.yml). If the database is an older copy, do not start it: ${restoreIt}.`,
  );
}

function setBack(directory: string, row: StoredPosition, link: JournalPosition): AppError {
  return new AppError(
    "conflict",
    `The journal in ${directory} has line ${link.n}, and the database stands at line ${row.n}: it is an older copy. Started like this it would forget ` +
      `what came after: revocations, spent tokens, serials. Do not start it: ${restoreIt}.`,
  );
}

function diverged(directory: string, row: StoredPosition): AppError {
  return new AppError(
    "conflict",
    `The journal in ${directory} and the database have different histories from line ${row.n} on: another service wrote to the journal after this ` +
      `database was copied, or the database is such a copy. Find out which one is in service, and leave the other stopped; else ${restoreIt}.`,
  );
}
