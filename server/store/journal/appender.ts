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

export function openAppender(point: AppendPoint, maxBytes = maxSegmentBytes): JournalAppender {
  const { directory } = point;
  const { segment, end, lastBytes, lastHash } = point;
  let known: Known = { segment, end, lastBytes, lastHash };
  /** Before the line appended last. */
  let before: Known = known;
  let file: number | null = null;
  /** There may be bytes behind `end`, or none where there should be. */
  let doubtful = true;
  let cutDue = false;
  let failure: string | null = null;

  const close = (): void => {
    if (file === null) return;
    const open = file;
    file = null;
    quietly(() => closeSync(open));
  };
  const repair = (): number => {
    close();
    const { segment } = known;
    if (segment === null) throw new Error("the journal has no segment");
    const opened = openSync(segment, constants.O_RDWR);
    file = opened;
    cutBack(opened, known);
    doubtful = false;
    return opened;
  };
  /** The file that the next line goes to. */
  const ready = (line: NewLine): number => {
    if (known.lastHash !== line.previous) {
      throw new Error(`line ${line.n} does not follow the last one in ${known.segment ?? directory}`);
    }
    if (known.segment !== null && (doubtful || file === null)) repair();
    if (known.segment === null || cutDue || known.end >= maxBytes) {
      const begun = beginSegment(directory, line);
      close();
      file = begun.file;
      known = { segment: begun.path, end: 0, lastBytes: 0, lastHash: line.previous };
      cutDue = false;
      doubtful = false;
    }
    if (file === null) throw new Error("the journal is closed");
    checkUntouched(file, known);
    return file;
  };
  const guarded = (act: () => void): void => {
    try {
      act();
      failure = null;
    } catch (error) {
      failure = describe(directory, error);
      throw new JournalFault(failure, { cause: error });
    }
  };
  /** Whether it can is of no consequence: what is doubtful is repaired before the next line. */
  const tryRepair = (): void => {
    if (doubtful && known.segment !== null) quietly(repair);
  };

  return {
    append(line) {
      guarded(() => {
        try {
          const target = ready(line);
          const bytes = Buffer.from(line.text, "utf8");
          doubtful = true;
          writeWhole(target, bytes, known.end);
          fdatasyncSync(target);
          before = known;
          known = {
            segment: known.segment,
            end: known.end + bytes.length,
            lastBytes: bytes.length,
            lastHash: line.hash,
          };
          doubtful = false;
        } catch (error) {
          tryRepair();
          throw error;
        }
      });
    },
    undo() {
      // A segment that began with the line stays, empty, for the next one of the same number.
      known = before;
      doubtful = true;
      tryRepair();
    },
    probe() {
      guarded(() => {
        if (known.segment !== null) {
          if (doubtful || file === null) repair();
          if (file !== null) checkUntouched(file, known);
        }
        probeDirectory(directory);
      });
    },
    cut() {
      cutDue = known.end > 0;
    },
    failure: () => failure,
    point: () => ({ directory, ...known }),
    [Symbol.dispose]: close,
  };
}

/** Makes the file end where the last good line does. After a failed fsync what the cache shows proves nothing: what is behind goes. */
function cutBack(file: number, { segment, end, lastBytes, lastHash }: Known): void {
  const { size } = fstatSync(file);
  if (size < end) throw new Error(`${segment} is shorter than what was written to it: lines are lost`);
  if (lastBytes > 0) {
    const last = Buffer.alloc(lastBytes);
    readSync(file, last, 0, lastBytes, end - lastBytes);
    if (!last.toString("utf8").endsWith(`,"hash":"${lastHash}"}\n`)) {
      throw new Error(`${segment} is not what was written to it: the last line is another one`);
    }
  }
  if (size > end) {
    ftruncateSync(file, end);
    fsyncSync(file);
  }
}

/** One look at the file before each line: somebody who removed it, or writes to it too, is noticed before anything is answered. */
function checkUntouched(file: number, { segment, end }: Known): void {
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
