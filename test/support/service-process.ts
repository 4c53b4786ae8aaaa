/** The service as a process of its own, which a test may kill at any moment. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ListenerName } from "../../server/http/context.ts";

const launcher = join(import.meta.dirname, "..", "..", "bin", "newleaf");
const startTimeout = 20_000;

export interface ServiceProcess {
  readonly child: ChildProcess;
  readonly urls: Readonly<Record<ListenerName, string>>;
  /** SIGKILL, and gone when it resolves. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

/** `newleaf serve` on free ports, under the Node that runs this; resolves when it has said where it listens. */
export async function serve(dataDir: string, env: Readonly<Record<string, string>> = {}): Promise<ServiceProcess> {
  const ports = Object.fromEntries(
    ["AGENTS", "ENROLLMENT", "ADMIN", "PUBLIC", "OPS"].map((name) => [`NEWLEAF_LISTEN_${name}`, "127.0.0.1:0"]),
  );
  const runFile = join(dataDir, "run.json");
  await rm(runFile, { force: true });
  const child = spawn(launcher, ["serve", "--data", dataDir], {
    env: { ...process.env, NEWLEAF_NODE: process.execPath, ...ports, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let complaint = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  const urls = await readRunFile(runFile, child, () => complaint);
  const gone = once(child, "exit");
  return {
    child,
    urls,
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
    async stop() {
      child.kill("SIGTERM");
      await gone;
      return child.exitCode;
    },
  };
}

async function readRunFile(
  file: string,
  child: ChildProcess,
  complaint: () => string,
): Promise<Record<ListenerName, string>> {
  const deadline = Date.now() + startTimeout;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`the service ended with ${child.exitCode}: ${complaint()}`);
    try {
      const { pid, listeners } = JSON.parse(await readFile(file, "utf8")) as {
        pid: number;
        listeners: Record<ListenerName, string>;
      };
      if (pid === child.pid) return asUrls(listeners);
    } catch {
      // Not written yet.
    }
    await sleep(20);
  }
  child.kill("SIGKILL");
  throw new Error(`the service did not start: ${complaint()}`);
}

function asUrls(listeners: Record<ListenerName, string>): Record<ListenerName, string> {
  const port = (name: ListenerName): string => listeners[name].split(":").at(-1) ?? "";
  return {
    agents: `https://localhost:${port("agents")}`,
    enrollment: `https://localhost:${port("enrollment")}`,
    admin: `https://localhost:${port("admin")}`,
    public: `http://localhost:${port("public")}`,
    ops: `http://localhost:${port("ops")}`,
  };
}
