/**
 * The journal's files: `journal-<number of the first line>-<UTC>.jsonl` in one directory. Only the last one grows. A crash or a
 * power cut can leave a torn line at the end of the last one, which was never answered for; anywhere else a torn line is damage.
 */
import { closeSync, fsyncSync, openSync, readdirSync, readSync, unlinkSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import type { JournalPosition } from "../journal.ts";
import { breakBetween, DamagedLine, type JournalLine, type LineLink, readLine, readLink } from "./line.ts";

export interface Segment {
  readonly path: string;
  /** Number of its first line. */
  readonly first: number;
}

const segmentName = /^journal-(\d{12,15})-\d{8}T\d{9}Z\.jsonl$/;

/** Name of a segment that begins with line `first`. */
export function nameSegment(first: number, at: number): string {
  const utc = new Date(at).toISOString().replaceAll(/[-:.]/g, "");
  return `journal-${String(first).padStart(12, "0")}-${utc}.jsonl`;
}

/** In the order of their lines. @throws the system error */
export function listSegments(directory: string): readonly Segment[] {
  const segments: Segment[] = [];
  for (const name of readdirSync(directory).toSorted()) {
    const [, first] = segmentName.exec(name) ?? [];
    if (first !== undefined) segments.push({ path: join(directory, name), first: Number(first) });
  }
  return segments.toSorted((a, b) => a.first - b.first);
}

export interface RawLine {
  /** Without the line feed. */
  readonly text: string;
  /** Where it begins, and its length with the line feed if it has one. */
  readonly offset: number;
  readonly bytes: number;
  /** Ends in a line feed. */
  readonly whole: boolean;
  /** Nothing follows it in the file. */
  readonly last: boolean;
}

const chunkBytes = 1 << 20;

/** The lines of one file. @throws the system error */
export function* readRawLines(path: string): Generator<RawLine> {
  const file = openSync(path, "r");
  try {
    const chunk = Buffer.alloc(chunkBytes);
    let rest = Buffer.alloc(0);
    let offset = 0;
    let pending: Omit<RawLine, "last"> | null = null;
    for (;;) {
      const read = readSync(file, chunk, 0, chunkBytes, null);
      if (read === 0) break;
      let data =
        rest.length === 0 ? Buffer.from(chunk.subarray(0, read)) : Buffer.concat([rest, chunk.subarray(0, read)]);
      for (let feed = data.indexOf(10); feed !== -1; feed = data.indexOf(10)) {
        if (pending !== null) yield { ...pending, last: false };
        pending = { text: data.toString("utf8", 0, feed), offset, bytes: feed + 1, whole: true };
        offset += feed + 1;
        data = data.subarray(feed + 1);
      }
      rest = data;
    }
    if (pending !== null) yield { ...pending, last: rest.length === 0 };
    if (rest.length > 0) yield { text: rest.toString("utf8"), offset, bytes: rest.length, whole: false, last: true };
  } finally {
    closeSync(file);
  }
}

/** The last whole line of a journal, and what is behind it. */
export interface JournalTail {
  readonly segment: Segment;
  readonly link: LineLink;
  readonly line: JournalLine;
  /** Where the line begins, and where it ends: the next one goes there. */
  readonly start: number;
  readonly end: number;
  /** Bytes of a torn line behind it, in the same file. */
  readonly torn: number;
  /** Files after it without a whole line: a crash came while the first one was written. */
  readonly remnants: readonly Segment[];
}

/**
 * Reads the last segment that has a line, and checks every line of it.
 * @returns null when the directory has no journal
 * @throws AppError conflict naming file and line when something but the last line is torn or altered; the system error
 */
export function readTail(directory: string): JournalTail | null {
  const remnants: Segment[] = [];
  for (const segment of listSegments(directory).toReversed()) {
    const tail = tailOf(segment);
    if (tail !== null) return { ...tail, remnants };
    remnants.push(segment);
  }
  return null;
}

function tailOf(segment: Segment): Omit<JournalTail, "remnants"> | null {
  let last: { readonly link: LineLink; readonly raw: RawLine } | null = null;
  let torn = 0;
  let number = 0;
  for (const raw of readRawLines(segment.path)) {
    number += 1;
    const link = linkOf(raw, segment, number);
    if (link === null) torn = raw.bytes;
    else {
      const broken = last === null ? null : breakBetween(last.link, link);
      if (broken !== null) throw damaged(segment, number, broken);
      last = { link, raw };
    }
  }
  if (last === null) return null;
  const { link, raw } = last;
  return { segment, link, line: readLine(raw.text), start: raw.offset, end: raw.offset + raw.bytes, torn };
}

/** Null for a torn line at the end of the file. */
function linkOf(raw: RawLine, segment: Segment, number: number): LineLink | null {
  try {
    if (!raw.whole) return null;
    return readLink(raw.text);
  } catch (error) {
    if (!(error instanceof DamagedLine)) throw error;
    // What a power cut leaves of one write can have its end and lack its middle.
    if (raw.last) return null;
    throw damaged(segment, number, error.message);
  }
}

export interface PlacedLine {
  readonly line: JournalLine;
  readonly segment: Segment;
  /** From 1, in its file. */
  readonly number: number;
}

/**
 * Every line after `from`, in order, each checked against the one before. A torn line at the very end is left out.
 * A line with `base` may follow anything: it says that what came before is not complete.
 *
 * @throws AppError conflict naming file and line for what is damaged, missing or of another journal; the system error
 */
export function* readJournal(directory: string, from: JournalPosition): Generator<PlacedLine> {
  const segments = listSegments(directory).filter(hasLines);
  const begin = segments.findLastIndex((segment) => segment.first <= from.n + 1);
  if (begin === -1) throw startMissing(directory, from, segments[0]);
  let previous = from;
  let seen = 0;
  for (const segment of segments.slice(begin)) {
    let number = 0;
    for (const raw of readRawLines(segment.path)) {
      number += 1;
      const link = linkOf(raw, segment, number);
      if (link === null) {
        if (segment === segments.at(-1)) break;
        throw damaged(segment, number, "it is torn, and another file follows");
      }
      checkPast(from, link, segment, number);
      seen = link.n;
      if (link.n <= from.n) continue;
      const line = readLine(raw.text);
      const broken = line.base === undefined ? breakBetween(previous, link) : null;
      if (broken !== null) throw damaged(segment, number, broken);
      yield { line, segment, number };
      previous = { journal: link.journal, n: link.n, hash: link.hash };
    }
  }
  if (seen < from.n) throw endsEarly(directory, from, seen);
}

/** Lines up to `from` are not carried out, but the one of its number must be it. */
function checkPast(from: JournalPosition, link: LineLink, segment: Segment, number: number): void {
  if (link.journal !== from.journal) throw damaged(segment, number, `it belongs to another journal (${link.journal})`);
  if (link.n === from.n && link.hash !== from.hash) {
    throw damaged(
      segment,
      number,
      `it is not the line ${from.n} that the database holds: the two are of different histories`,
    );
  }
}

function hasLines(segment: Segment): boolean {
  return firstLink(segment) !== null;
}

function firstLink(segment: Segment): LineLink | null {
  for (const raw of readRawLines(segment.path)) return linkOf(raw, segment, 1);
  return null;
}

/**
 * Removes the segments that hold nothing after line `n`. The last one always stays. A running service may go on writing.
 *
 * @param before the position of the oldest backup that is kept
 * @returns the paths of the removed files
 * @throws AppError conflict when the directory holds another journal; the system error
 */
export function dropJournalBefore(
  directory: string,
  before: Pick<JournalPosition, "journal" | "n">,
): readonly string[] {
  const segments = listSegments(directory).flatMap((segment) => {
    const link = firstLink(segment);
    return link === null ? [] : [{ ...segment, journal: link.journal }];
  });
  if (segments.some(({ journal }) => journal !== before.journal)) {
    throw new AppError(
      "conflict",
      `The journal in ${directory} is another one than that of the backups; nothing was removed.`,
    );
  }
  const removed: string[] = [];
  for (const [index, { path }] of segments.entries()) {
    const next = segments[index + 1];
    if (next === undefined || next.first > before.n + 1) break;
    unlinkSync(path);
    removed.push(path);
  }
  if (removed.length > 0) syncDirectoryNow(directory);
  return removed;
}

/** Makes names added to or removed from a directory durable. @throws the system error */
export function syncDirectoryNow(directory: string): void {
  const handle = openSync(directory, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** @throws the system error */
export async function journalSize(directory: string): Promise<{ readonly segments: number; readonly bytes: number }> {
  const names = (await readdir(directory)).filter((name) => segmentName.test(name));
  let bytes = 0;
  for (const name of names) bytes += (await stat(join(directory, name))).size;
  return { segments: names.length, bytes };
}

function damaged(segment: Segment, number: number, why: string): AppError {
  return new AppError("conflict", `The journal is damaged: ${segment.path}, line ${number}: ${why}.`);
}

function endsEarly(directory: string, from: JournalPosition, seen: number): AppError {
  return new AppError(
    "conflict",
    `The journal in ${directory} ends with line ${seen}, before line ${from.n}, where it should be read from: it is an old copy, or lost its end.`,
  );
}

function startMissing(directory: string, from: JournalPosition, oldest: Segment | undefined): AppError {
  return new AppError(
    "conflict",
    oldest === undefined
      ? `There is no journal in ${directory}: no file in it holds a line.`
      : `The journal in ${directory} begins with line ${oldest.first}; what follows line ${from.n} was removed or is elsewhere.`,
  );
}
