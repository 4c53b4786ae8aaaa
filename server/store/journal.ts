/**
 * The journal: every write that decides something, appended to files off the database and fsynced before the database commits.
 * What a backup does not hold yet, a restore takes from there (docs/journal.md).
 */

/** A place in a journal: after line `n`, whose hash is `hash`. */
export interface JournalPosition {
  /** Which journal: 32 hex digits, random; database and journal each hold it. */
  readonly journal: string;
  /** Lines from 1; 0 is before the first. */
  readonly n: number;
  /** Hex SHA-256 of line `n`; it covers every line before it. */
  readonly hash: string;
}

export interface JournalStatus {
  readonly directory: string;
  readonly position: JournalPosition;
  /**
   * The line at which the journal last began anew, because what happened before is not in it. A backup whose position is before this
   * line cannot be brought up to date by the journal: until there is a later one, a restore loses what lies between.
   */
  readonly base: number;
  /** Why the last write or probe failed; null while the journal can be written. No write succeeds meanwhile. */
  readonly failure: string | null;
  readonly segments: number;
  readonly bytes: number;
}

/** What the journal has to say to the log. */
export type JournalEvent =
  /** It begins here: what was written before `line` is in no journal. Make a backup. */
  | { readonly kind: "based"; readonly line: number; readonly reason: string }
  /** A line that a crash kept from the database was carried out again. */
  | { readonly kind: "redone"; readonly line: number }
  /** Bytes of a line that a crash cut off were removed; nobody was ever told that it was done. */
  | { readonly kind: "trimmed"; readonly segment: string; readonly bytes: number }
  /** Others than the owner can read what is in there. */
  | { readonly kind: "exposed"; readonly directory: string }
  | { readonly kind: "failing"; readonly failure: string }
  | { readonly kind: "recovered" };

export interface JournalStore {
  /**
   * Begins a new segment with the next line, so that older ones can be removed when every backup is newer. The position answered is
   * before the next line: a copy of the database that is made afterwards is at this position or later. Null without a journal.
   */
  cutJournal(): Promise<JournalPosition | null>;
  /** Null without a journal. */
  journalStatus(): Promise<JournalStatus | null>;
}
