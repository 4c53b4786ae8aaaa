/**
 * The metrics as a file for node_exporter's textfile collector. It shows an agent that stopped, too: the last values stay, and
 * `node_textfile_mtime_seconds` grows old.
 */
import { constants, open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { inDirectoryOf } from "./guarded-open.ts";
import type { Log } from "./log.ts";

export interface Textfile extends AsyncDisposable {
  /** Something may have changed: it is written soon, together with what else changes. */
  changed(): void;
  /** Writes each minute until the signal aborts, so that its age tells that the agent lives. */
  keepFresh(signal: AbortSignal): Promise<void>;
}

export interface TextfileOptions {
  /** Absolute, ends in `.prom`. */
  readonly path: string;
  readonly render: () => string | Promise<string>;
  readonly log: Log;
  /** Default one minute. */
  readonly everyMs?: number;
  /** How long more changes are waited for; default 1 s. */
  readonly settleMs?: number;
}

/** The collector runs as another user. */
const mode = 0o644;

/** Disposing of it writes a last time, when there was anything to write. Nothing here throws: what goes wrong is logged, once until it goes well again. */
export function openTextfile(options: TextfileOptions): Textfile {
  const { path, render, log, everyMs = 60_000, settleMs = 1000 } = options;
  let timer: NodeJS.Timeout | null = null;
  let writing: Promise<void> = Promise.resolve();
  let hasFailed = false;
  let isUsed = false;
  const writeNow = async (): Promise<void> => {
    try {
      await replace(path, await render());
      if (hasFailed) log.info("textfile-again", { path });
      hasFailed = false;
    } catch (error) {
      // Certificates are kept whether or not anybody can watch.
      if (!hasFailed) log.error("no-textfile", { path, why: adviceOn(error, path) });
      hasFailed = true;
    }
  };
  const write = (): Promise<void> => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    // One after the other: they share the temporary name.
    writing = writing.then(writeNow);
    return writing;
  };
  return {
    changed() {
      isUsed = true;
      timer ??= setTimeout(() => void write(), settleMs);
    },
    async keepFresh(signal) {
      isUsed = true;
      await write();
      const every = setInterval(() => void write(), everyMs);
      await aborted(signal);
      clearInterval(every);
    },
    [Symbol.asyncDispose]: () => (isUsed ? write() : Promise.resolve()),
  };
}

/**
 * Not durable: it is written again within a minute, and an fsync each minute would be a high price for it. The temporary name does
 * not end in `.prom`, so the collector never reads half a file; it is always the same, so crashes leave no litter.
 */
async function replace(path: string, text: string): Promise<void> {
  await inDirectoryOf(path, (within) => replaceWithin(within, text));
}

async function replaceWithin(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.newleaf`);
  await unlink(temporary).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode);
  try {
    await file.writeFile(text);
    // Against the umask. By the open file: whoever owns the directory may have put a link to another file under that name.
    await file.chmod(mode);
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

function adviceOn(error: unknown, path: string): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const directory = dirname(path);
  switch (code) {
    case "ENOENT":
      return `${directory} does not exist; make it, and name it to node_exporter with --collector.textfile.directory`;
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return `${message}; the agent must be able to write in ${directory} (under systemd also ReadWritePaths=${directory})`;
    default:
      return message;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
