/**
 * One process at a time for a directory. The lock is a socket in that directory, so that only who may write there can take it: an
 * abstract socket could be bound by every user of the host, and a lock file would outlive its process.
 *
 * Each process that comes listens on a socket of its own name and then looks for others. One that nobody listens on any more was
 * left by a process that ended, however it ended, and is removed: no name is used twice, so none can come alive again. Whoever
 * finds another alive steps back. Two that come at the same moment may both step back, never both go on; they try again.
 */
import { randomBytes } from "node:crypto";
import { constants, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Another process has the lock. */
export class LockTakenError extends Error {
  override readonly name = "LockTakenError";
  /** What it says of itself, in printable characters. */
  readonly holder: string;

  constructor(holder: string) {
    super(`taken by ${holder}`);
    this.holder = holder;
  }
}

const attempts = 5;
const answerWithin = 500;
const maxAnswer = 200;
/** A socket without its last name is a start that was cut off, once it is this old. */
const abandonedAfter = 60_000;
const unnamed = "another process";

/**
 * @param name one lock of several in a directory: letters and dashes
 * @param holder what this process is, for the next one that comes
 * @throws LockTakenError naming the holder, the system error
 */
export async function takeProcessLock(directory: string, name: string, holder: string): Promise<AsyncDisposable> {
  for (let attempt = 1; ; attempt += 1) {
    const mine = await announce(directory, name, holder);
    let other: string | null;
    try {
      other = await findOther(directory, name, mine.file);
    } catch (error) {
      await mine[Symbol.asyncDispose]();
      throw error;
    }
    if (other === null) return mine;
    await mine[Symbol.asyncDispose]();
    if (attempt === attempts) throw new LockTakenError(other);
    await sleep(10 + Math.random() * 40 * attempt);
  }
}

/** Who holds it; null when nobody does. Changes nothing. */
export async function processLockHolder(directory: string, name: string): Promise<string | null> {
  for (const file of await socketsOf(directory, name)) {
    const answer = await ask(directory, file);
    if (answer !== null) return answer;
  }
  return null;
}

async function announce(
  directory: string,
  name: string,
  holder: string,
): Promise<AsyncDisposable & { readonly file: string }> {
  const file = `.${name}-${randomBytes(8).toString("hex")}.sock`;
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.end(holder);
  });
  await within(directory, `${file}.new`, (path) => listen(server, path));
  server.on("error", () => {});
  server.unref();
  // Only now others see it: between bind and listen it would look like one that was left behind.
  await rename(join(directory, `${file}.new`), join(directory, file));
  return {
    file,
    async [Symbol.asyncDispose]() {
      await removeQuietly(join(directory, file));
      await new Promise<void>((closed) => server.close(() => closed()));
    },
  };
}

async function findOther(directory: string, name: string, mine: string): Promise<string | null> {
  for (const file of await socketsOf(directory, name)) {
    if (file === mine) continue;
    const answer = await ask(directory, file);
    if (answer !== null) return answer;
    await removeQuietly(join(directory, file));
  }
  await removeAbandoned(directory, name);
  return null;
}

async function socketsOf(directory: string, name: string): Promise<readonly string[]> {
  const pattern = new RegExp(`^\\.${name}-[0-9a-f]{16}\\.sock$`);
  return (await readdir(directory)).filter((entry) => pattern.test(entry));
}

async function removeAbandoned(directory: string, name: string): Promise<void> {
  const pattern = new RegExp(`^\\.${name}-[0-9a-f]{16}\\.sock\\.new$`);
  for (const entry of await readdir(directory)) {
    if (!pattern.test(entry)) continue;
    const { mtimeMs } = await stat(join(directory, entry)).catch(() => ({ mtimeMs: Infinity }));
    if (Date.now() - mtimeMs > abandonedAfter) await removeQuietly(join(directory, entry));
  }
}

/** What the process behind a socket says; null when there is none. */
async function ask(directory: string, file: string): Promise<string | null> {
  return within(directory, file, (path) => {
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const socket = connect({ path });
    let text = "";
    const done = (): void => resolve(text.replaceAll(/[\p{Cc}\p{Cf}]/gu, "?").slice(0, maxAnswer) || unnamed);
    const timer = setTimeout(() => socket.destroy(), answerWithin);
    socket.on("data", (chunk) => {
      text += chunk.toString("utf8");
      if (text.length > maxAnswer) socket.destroy();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(null);
    });
    socket.on("close", () => {
      clearTimeout(timer);
      done();
    });
    return promise;
  });
}

/** The path of a socket may have 107 bytes; by way of the directory's descriptor any directory will do. */
async function within<T>(directory: string, file: string, act: (path: string) => Promise<T>): Promise<T> {
  if (process.platform !== "linux") return act(join(directory, file));
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await act(`/proc/self/fd/${handle.fd}/${file}`);
  } finally {
    await handle.close();
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ path }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function removeQuietly(path: string): Promise<void> {
  // Whoever removed it first did the same.
  await unlink(path).catch(() => {});
}
