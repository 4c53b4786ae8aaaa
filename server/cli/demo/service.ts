/** The issuing service of the demo: a real `newleaf serve` on a data directory of its own. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type AdminClient, adminClient } from "../admin-client.ts";
import { init } from "../init.ts";
import { startProgram } from "./children.ts";
import { freePort } from "./gateway.ts";
import { serverEntry } from "./programs.ts";
import type { Stage } from "./stage.ts";
import { until } from "./wait.ts";

/** A leaf as the service's log names it. */
export interface LoggedLeaf {
  readonly identity: string;
  readonly fingerprint: string;
  readonly kind: string;
  readonly notAfter: string;
}

export interface ServiceListener {
  readonly onIssued: (leaf: LoggedLeaf) => void;
  /** The first request authenticated with it. */
  readonly onFirstUsed: (leaf: Pick<LoggedLeaf, "identity" | "fingerprint">) => void;
}

export interface DemoService extends AsyncDisposable {
  /** Base URLs of listeners. */
  readonly agents: string;
  readonly enrollment: string;
  readonly rootsFile: string;
  /** PEM. */
  readonly roots: string;
  readonly admin: AdminClient;
}

/** Long enough for a busy machine to renew in time, short enough to watch. */
const settings = {
  NEWLEAF_PROFILES_GATEWAY_VALIDITY: "20s",
  NEWLEAF_PROFILES_AGENT_VALIDITY: "30s",
  NEWLEAF_LISTEN_AGENTS: "127.0.0.1:0",
  NEWLEAF_LISTEN_ENROLLMENT: "127.0.0.1:0",
  NEWLEAF_LISTEN_ADMIN: "127.0.0.1:0",
  NEWLEAF_LISTEN_OPS: "127.0.0.1:0",
};

/** Founds a CA and starts the service on it. */
export async function startService(stage: Stage, listener: ServiceListener): Promise<DemoService> {
  const data = join(stage.dir, "service");
  // CRL and issuer URLs go into every certificate, so this port is chosen before there is any.
  const publicPort = await freePort();
  await found(stage, data, `http://127.0.0.1:${publicPort}`);
  const child = await startProgram({
    name: "the service",
    program: process.execPath,
    args: [serverEntry, "serve", "--data", data],
    env: { ...stage.env, ...settings, NEWLEAF_LISTEN_PUBLIC: `127.0.0.1:${publicPort}` },
    onLine: (line) => hear(line, listener),
    onUnexpectedEnd: stage.fail,
  });
  await using stack = new AsyncDisposableStack();
  stack.use(child);
  const listeners = await until(() => readListeners(data, child.pid), {
    what: "the start of the service",
    timeoutMs: 30_000,
    signal: stage.signal,
  });
  const rootsFile = join(data, "roots.pem");
  const running = stack.move();
  return {
    agents: `https://${listeners["agents"] ?? ""}`,
    enrollment: `https://${listeners["enrollment"] ?? ""}`,
    rootsFile,
    roots: await readFile(rootsFile, "utf8"),
    admin: adminClient(stage.terminal, { data }),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** `newleaf init`, with a passphrase that nobody will ever need again. */
async function found(stage: Stage, data: string, publicUrl: string): Promise<void> {
  const passphraseFile = join(stage.dir, "passphrase");
  await writeFile(passphraseFile, `${randomBytes(24).toString("base64url")}\n`, { mode: 0o600 });
  try {
    await init(
      { ...stage.terminal, out: () => undefined },
      { data, caName: "Newleaf Demo", publicUrl, rootPassphraseFile: passphraseFile },
    );
  } finally {
    await rm(passphraseFile, { force: true });
  }
}

async function readListeners(data: string, pid: number): Promise<Readonly<Record<string, string | null>> | null> {
  const file = join(data, "run.json");
  if (!existsSync(file)) return null;
  const run = JSON.parse(await readFile(file, "utf8")) as {
    readonly pid: number;
    readonly listeners: Readonly<Record<string, string | null>>;
  };
  return run.pid === pid ? run.listeners : null;
}

function hear(line: string, listener: ServiceListener): void {
  if (!line.startsWith("{")) return;
  const entry = JSON.parse(line) as LoggedLeaf & { readonly msg?: string };
  if (entry.msg === "issued") listener.onIssued(entry);
  if (entry.msg === "first used") listener.onFirstUsed(entry);
}
