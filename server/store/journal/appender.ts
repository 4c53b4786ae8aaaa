/**
 * Appends to the journal, in the writer thread. Each call returns once its change is on the disk; when one throws, the file is as it was, or is
 * known not to be and is cut back before the next line. No line is ever acknowledged that may not be there.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { nameSegment, syncDirectoryNow } from "./segments.ts";

/** Where a journal goes on; plain data, it crosses threads. */
export interface AppendPoint {
  readonly directory: string;
  /** Null: there is no segment yet, or the next line shall begin one. */
  readonly segment: string | null;
  /** Where the next line goes. */
  readonly end: number;
  /** Length of the last line of the segment, line feed included; and its hash, which the next line must name as `previous`. */
  readonly lastBytes: number;
  readonly lastHash: string;
}

/** The journal cannot be written: nothing was done, and nothing is until it can. */
export class JournalFault extends Error {
  override readonly name = "JournalFault";
}

export interface JournalAppender extends Disposable {
  /** @throws JournalFault */
  readonly append: (line: NewLine) => void;
  /** Takes the line appended last away again: its commit failed. */
  readonly undo: () => void;
  /** Proves that the directory can be written. @throws JournalFault */
  readonly probe: () => void;
  /** The next line begins a new segment. */
  readonly cut: () => void;
  /** Why the last append or probe failed; null when it did not. */
  readonly failure: () => string | null;
  /** Where it goes on from here. */
  readonly point: () => AppendPoint;
}

export interface NewLine {
  /** With its line feed. */
  readonly text: string;
  readonly n: number;
  readonly previous: string;
  readonly hash: string;
  readonly at: number;
}

/** Segments end at about this size, so that old ones can go. */
const maxSegmentBytes = 64 * 1024 * 1024;
const probeBytes = 4096;

/** What is known of the file: `end` bytes of it are lines that are on the disk. */
interface Known {
  segment: string | null;
  end: number;
  lastBytes: number;
  lastHash: string;
}

interface State {
  readonly directory: string;
  readonly maxBytes: number;
  known: Known;
  /** Before the line appended last. */
  before: Known;
  file: number | null;
  /** We may have left bytes behind `known.end`. */
  dirty: boolean;
  cutDue: boolean;
  /** Bytes of the line that failed last; 0 when none did since one succeeded. */
  wanted: number;
}

export function openAppender(point: AppendPoint, maxBytes = maxSegmentBytes): JournalAppender {
  const { directory, ...known } = point;
  const state: State = {
    directory,
    maxBytes,
    known,
    before: known,
    file: null,
    dirty: false,
    cutDue: false,
    wanted: 0,
  };
  let failure: string | null = null;
  const guarded = (act: () => void): void => {
    try {
      act();
      failure = null;
    } catch (error) {
      // The next attempt opens the file by its name: the handle may be stale.
      close(state);
      if (state.dirty) quietly(() => reopen(state));
      failure = describe(directory, error);
      throw new JournalFault(failure, { cause: error });
    }
  };
  return {
    append: (line) => guarded(() => appendLine(state, line)),
    undo() {
      // A segment that began with the line stays, empty, for the next one of the same number.
      state.known = state.before;
      state.dirty = true;
      quietly(() => reopen(state));
    },
    probe() {
      guarded(() => {
        if (state.known.segment !== null) checkUntouched(state.file ?? reopen(state), state.known);
        if (state.wanted > 0) probeSegment(state);
        probeDirectory(directory);
      });
    },
    cut() {
      state.cutDue = state.known.end > 0;
    },
    failure: () => failure,
    point: () => ({ directory, ...state.known }),
    [Symbol.dispose]: () => close(state),
  };
}

function appendLine(state: State, line: NewLine): void {
  const bytes = Buffer.from(line.text, "utf8");
  state.wanted = bytes.length;
  const file = fileFor(state, line);
  checkUntouched(file, state.known);
  const { segment, end } = state.known;
  state.dirty = true;
  writeWhole(file, bytes, end);
  fdatasyncSync(file);
  state.before = state.known;
  state.known = { segment, end: end + bytes.length, lastBytes: bytes.length, lastHash: line.hash };
  state.dirty = false;
  state.wanted = 0;
}

/** After a line failed: whether one as long could be written now. What is written is cut off again, here or after a crash. */
function probeSegment(state: State): void {
  const file = state.file ?? reopen(state);
  if (file === null) return;
  state.dirty = true;
  writeWhole(file, Buffer.alloc(state.wanted), state.known.end);
  fdatasyncSync(file);
  reopen(state);
  state.wanted = 0;
}

/** Where the next line goes: the last segment, or a new one. */
function fileFor(state: State, line: NewLine): number {
  const { known, maxBytes } = state;
  if (known.lastHash !== line.previous) {
    throw new Error(`line ${line.n} does not follow the last one in ${known.segment ?? state.directory}`);
  }
  const open = state.dirty || state.file === null ? reopen(state) : state.file;
  if (open !== null && !state.cutDue && known.end < maxBytes) return open;
  const begun = beginSegment(state.directory, line);
  close(state);
  state.file = begun.file;
  state.known = { segment: begun.path, end: 0, lastBytes: 0, lastHash: line.previous };
  state.cutDue = false;
  return begun.file;
}

/** Opens the last segment by its name, as if for the first time, and removes what we may have left behind its last line. */
function reopen(state: State): number | null {
  close(state);
  const { segment } = state.known;
  if (segment === null) return null;
  const file = openSync(segment, constants.O_RDWR);
  try {
    checkLastLine(file, state.known);
    if (state.dirty) cutBack(file, state.known);
  } catch (error) {
    closeSync(file);
    throw error;
  }
  state.file = file;
  state.dirty = false;
  return file;
}

function close(state: State): void {
  const { file } = state;
  state.file = null;
  if (file !== null) quietly(() => closeSync(file));
}

/** That the file still holds what was written to it, as far as its last line tells. */
function checkLastLine(file: number, { segment, end, lastBytes, lastHash }: Known): void {
  if (fstatSync(file).size < end) throw new Error(`${segment} is shorter than what was written to it: lines are lost`);
  if (lastBytes > 0) {
    const last = Buffer.alloc(lastBytes);
    readSync(file, last, 0, lastBytes, end - lastBytes);
    if (!last.toString("utf8").endsWith(`,"hash":"${lastHash}"}\n`)) {
      throw new Error(`${segment} is not what was written to it: the last line is another one`);
    }
  }
}

/** Makes the file end where the last good line does. After a failed fsync what the cache shows proves nothing: what is behind goes. */
function cutBack(file: number, { end }: Known): void {
  ftruncateSync(file, end);
  fsyncSync(file);
}

/** One look at the file before each line: somebody who removed it, or writes to it too, is noticed before anything is answered. */
function checkUntouched(file: number | null, { segment, end }: Known): void {
  if (file === null) return;
  const { size, nlink } = fstatSync(file);
  if (nlink === 0) throw new Error(`${segment} was removed`);
  if (size !== end) throw new Error(`${segment} was changed by somebody else`);
}

function beginSegment(directory: string, line: NewLine): { readonly file: number; readonly path: string } {
  const path = join(directory, nameSegment(line.n, line.at));
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    fchmodSync(file, 0o600);
    fsyncSync(file);
    syncDirectoryNow(directory);
  } catch (error) {
    closeSync(file);
    quietly(() => unlinkSync(path));
    throw error;
  }
  return { file, path };
}

function writeWhole(file: number, bytes: Buffer, position: number): void {
  for (let written = 0; written < bytes.length;) {
    const count = writeSync(file, bytes, written, bytes.length - written, position + written);
    if (count === 0) throw new Error(`only ${written} of ${bytes.length} bytes could be written`);
    written += count;
  }
}

/** Writes, fsyncs and removes a small file. */
function probeDirectory(directory: string): void {
  const path = join(directory, `.probe-${process.pid}`);
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600);
  try {
    writeWhole(file, Buffer.alloc(probeBytes), 0);
    fsyncSync(file);
  } finally {
    closeSync(file);
    quietly(() => unlinkSync(path));
  }
}

function describe(directory: string, error: unknown): string {
  const why = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const advice =
    code === "ENOSPC" || code === "EDQUOT"
      ? "make room there"
      : code === "ENOENT" || code === "ESTALE"
        ? "is it still mounted?"
        : "check that directory";
  return `The journal in ${directory} cannot be written (${why}); nothing was done. Until it can be, nothing is: ${advice}.`;
}

function quietly(act: () => void): void {
  try {
    act();
  } catch {
    // The error that matters is the first one, or comes with the next line.
  }
}
