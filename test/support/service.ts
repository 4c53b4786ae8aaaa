/** A real service in a temporary directory: initialised by the program's own code, real SQLite, real sockets on free ports of 127.0.0.1. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, type Clock } from "@newleaf/shared/clock";
import { requestJson } from "@newleaf/shared/http-client";
import { pino } from "pino";
import { startServer, type RunningServer } from "../../server/app.ts";
import { init } from "../../server/cli/init.ts";
import { processTerminal } from "../../server/cli/terminal.ts";
import { loadConfig } from "../../server/config.ts";
import type { ListenerName } from "../../server/http/context.ts";

export const operatorId = "admin@operators";

export interface TestService extends AsyncDisposable {
  /** Everything of the test goes in here; removed at the end. */
  readonly dir: string;
  readonly dataDir: string;
  readonly clock: MovableClock;
  readonly server: RunningServer;
  readonly urls: Readonly<Record<ListenerName, string>>;
  /** PEM of the root, and the file. */
  readonly roots: string;
  readonly rootsFile: string;
  readonly operator: { readonly chainFile: string; readonly keyFile: string };
  /** What the service logged, one JSON object each. */
  readonly log: readonly Record<string, unknown>[];
  /** A call of the admin API as the first operator; throws AppError for a problem. */
  admin<T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T>;
  /** A token for an identity, which is added when it is not in the inventory yet. */
  token(identity: string, names?: { dns?: string[]; ip?: string[]; uri?: string[]; email?: string[] }): Promise<string>;
  /** Stops and starts again on the same data directory and clock. */
  restart(): Promise<void>;
}

/** Wall time that a test can move. */
export interface MovableClock extends Clock {
  advance(ms: number): void;
}

export function movableClock(): MovableClock {
  let offset = 0;
  return { now: () => systemClock.now() + offset, advance: (ms) => void (offset += ms) };
}

/** Free ports, whatever the configuration says. */
const anyPorts = Object.fromEntries(
  ["AGENTS", "ENROLLMENT", "ADMIN", "PUBLIC", "OPS"].map((name) => [`NEWLEAF_LISTEN_${name}`, "127.0.0.1:0"]),
);

interface StartOptions {
  readonly clockOffset?: number;
  readonly foundedThen?: boolean;
  /** A data directory that is there already, a restored one, and where its first operator's files are. */
  readonly on?: { readonly dataDir: string; readonly operator: string };
}

/**
 * `foundedThen`: the CA is a day older than the service's clock, not founded today.
 * `env` overrides configuration as the environment does: `NEWLEAF_PROFILES_AGENT_VALIDITY: "3s"`.
 */
export async function startService(
  env: Readonly<Record<string, string>> = {},
  { clockOffset = 0, foundedThen = false, on }: StartOptions = {},
): Promise<TestService> {
  const dir = await mkdtemp(join(tmpdir(), "newleaf-test-"));
  const dataDir = on?.dataDir ?? join(dir, "data");
  if (on === undefined) await atOffset(foundedThen ? clockOffset - 86_400_000 : 0, () => initDataDir(dataDir, dir));
  const config = loadConfig({ dataDir, env: { ...anyPorts, ...env } });
  const clock = movableClock();
  clock.advance(clockOffset);
  const log: Record<string, unknown>[] = [];
  const logger = pino(
    { level: "debug" },
    { write: (line: string) => void log.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const start = (): Promise<RunningServer> => startServer(config, { clock, log: logger });
  let server = await start();
  const rootsFile = join(dataDir, "roots.pem");
  const operatorDir = on?.operator ?? join(dataDir, "operators", operatorId);
  const operator = { chainFile: join(operatorDir, "chain.pem"), keyFile: join(operatorDir, "key.pem") };
  const roots = await readFile(rootsFile, "utf8");
  const tls = {
    ca: roots,
    cert: await readFile(operator.chainFile, "utf8"),
    key: await readFile(operator.keyFile, "utf8"),
  };

  const service: TestService = {
    dir,
    dataDir,
    clock,
    log,
    roots,
    rootsFile,
    operator,
    get server() {
      return server;
    },
    get urls() {
      return urlsOf(server);
    },
    async admin<T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
      const answer = await requestJson({
        url: new URL(path, urlsOf(server).admin),
        method,
        headers: { "X-Newleaf-Client": "test" },
        tls,
        timeoutMs: 20_000,
        maxBytes: 50_000_000,
        ...(body === undefined ? {} : { body }),
      });
      return answer.body as T;
    },
    async token(identity, names = {}) {
      const { items } = await service.admin<{ items: { id: string }[] }>(
        "GET",
        `/v1/identities?q=${encodeURIComponent(identity)}`,
      );
      if (!items.some(({ id }) => id === identity)) {
        await service.admin("POST", "/v1/identities", {
          id: identity,
          profile: "agent",
          names: { dns: [], ip: [], uri: [], email: [], ...names },
        });
      }
      return (await service.admin<{ token: string }>("POST", "/v1/tokens", { identity, ttl: "1h" })).token;
    },
    async restart() {
      await server[Symbol.asyncDispose]();
      server = await start();
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
  return service;
}

/** `newleaf init` takes the time from the system. */
async function atOffset(offset: number, work: () => Promise<void>): Promise<void> {
  const { now } = Date;
  Date.now = () => now() + offset;
  try {
    await work();
  } finally {
    Date.now = now;
  }
}

/** What `newleaf init` does, in this process. */
export async function initDataDir(dataDir: string, scratch: string): Promise<void> {
  const passphraseFile = join(scratch, "passphrase");
  await writeFile(passphraseFile, "correct horse battery staple\n", { mode: 0o600 });
  const terminal = processTerminal({});
  await init(
    { ...terminal, out: () => undefined },
    {
      data: dataDir,
      caName: "Test Lab",
      host: ["localhost"],
      operator: operatorId,
      rootPassphraseFile: passphraseFile,
    },
  );
}

function urlsOf(server: RunningServer): Record<ListenerName, string> {
  const urls = { agents: "", enrollment: "", admin: "", public: "", ops: "" };
  for (const name of Object.keys(urls) as ListenerName[]) {
    const address = server.listeners[name];
    const scheme = name === "public" || name === "ops" ? "http" : "https";
    if (address !== null) urls[name] = `${scheme}://localhost:${address.port}`;
  }
  return urls;
}
