/**
 * One agent per state directory: `run`, `renew`, `enroll` and `key` take this lock. It is an abstract unix socket, which the kernel
 * frees with the process however that ends, and whoever finds it taken asks it who holds it.
 *
 * Limit: abstract sockets belong to a network namespace. Two containers that share a state directory but no network are not
 * kept apart; give each its own state.
 */
import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { connect, createServer } from "node:net";

export class LockedError extends Error {
  override readonly name = "LockedError";
}

/**
 * @param holder what this process is, for the next one that comes
 * @throws LockedError naming the holder
 */
export async function takeLock(state: string, holder: string): Promise<AsyncDisposable> {
  const name = createHash("sha256").update(realpathSync(state)).digest("hex").slice(0, 32);
  const path = `\0newleaf-agent:${name}`;
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.end(holder);
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ path }, resolve);
  try {
    await promise;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    const other = await askHolder(path);
    throw new LockedError(`${state} is in use by ${other}; stop it first, or let it do the work`);
  }
  server.on("error", () => {});
  server.unref();
  return { [Symbol.asyncDispose]: () => new Promise((closed) => server.close(() => closed())) };
}

/** Who holds the lock of a state directory; null when nobody does. */
export async function lockHolder(state: string): Promise<string | null> {
  const name = createHash("sha256").update(realpathSync(state)).digest("hex").slice(0, 32);
  return askHolder(`\0newleaf-agent:${name}`, null);
}

function askHolder(path: string): Promise<string>;
function askHolder(path: string, absent: null): Promise<string | null>;
function askHolder(path: string, absent: string | null = "another newleaf-agent"): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: 1000 });
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString("utf8")));
    socket.on("timeout", () => socket.destroy());
    socket.on("error", () => resolve(absent));
    socket.on("close", () => resolve(text === "" ? absent : text));
  });
}
