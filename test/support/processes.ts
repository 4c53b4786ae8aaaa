import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const lastWordsMs = 500;
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export interface Daemon {
  readonly child: ChildProcess;
  /** What it wrote to stdout and stderr. */
  output(): string;
  /** SIGTERM, then SIGKILL after two seconds. */
  stop(): Promise<void>;
}

/** Whom a program runs as, when the tests run as root. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** Starts a program in the foreground that ends with the test process at the latest. */
export function startDaemon(program: string, args: readonly string[], as?: Account): Daemon {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...as });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
  running.add(child);
  const closed = once(child, "close").catch(() => undefined);
  // What it said last is read after its end; children of its own may keep the pipe open for longer than anybody wants to wait.
  const ended = once(child, "exit").then(() => {
    running.delete(child);
    return Promise.race([closed, sleep(lastWordsMs, undefined, { ref: false })]);
  });
  return {
    child,
    output: () => Buffer.concat(chunks).toString("utf8"),
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGTERM");
        await Promise.race([ended, sleep(2000, undefined, { ref: false })]);
        child.kill("SIGKILL");
      }
      await ended;
    },
  };
}

/** A TCP port of 127.0.0.1 that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** Waits until somebody accepts connections on the port; false when `daemon` ends first. */
export async function accepts(port: number, daemon: Daemon, timeoutMs = 5000): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline) {
    if (daemon.child.exitCode !== null || daemon.child.signalCode !== null) return false;
    if (await canConnect(port)) return true;
    await sleep(10);
  }
  return false;
}

/** Whether 127.0.0.1:port, or a Unix socket by its path, accepts a connection now. */
export function canConnect(to: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(typeof to === "string" ? { path: to } : { host: "127.0.0.1", port: to });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
