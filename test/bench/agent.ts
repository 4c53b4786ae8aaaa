/**
 * `bin/node test/bench/agent.ts`: what the agent costs the host it is a guest on. Memory of `run` after a minute of idling with the
 * change feed held open, and how long one-shot commands take, for a checkout, the npm package and the single executable.
 *
 * Each enrolls as an identity of its own with a service in this process and probes a TLS server that reads its files at every handshake.
 * `NEWLEAF_NODE` chooses the runtime of the first two; `--only executable`, `--idle 10` and `--json` are there too.
 */
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createSecureContext } from "node:tls";
import { parseArgs, promisify } from "node:util";
import { type TestHost, testHost } from "../support/agent.ts";
import { startService, type TestService } from "../support/service.ts";
import { startTlsServer, type TlsServer } from "../support/tls-server.ts";

const runProgram = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");
const shots = 15;

type Kind = "checkout" | "package" | "executable";

interface Contestant {
  readonly kind: Kind;
  readonly program: string;
  readonly host: TestHost;
  readonly proxy: TlsServer;
}

interface Figures {
  readonly kind: Kind;
  /** The best of fifteen, milliseconds from the start of the process to its end. */
  readonly versionMs: number;
  readonly renewMs: number;
  /** From the start of `run` to its `ready` line. */
  readonly readyMs: number;
  /** MB. `own` is what only this process has: the rest is shared with others that run the same file, or can be dropped. */
  readonly residentMb: number;
  readonly ownMb: number;
  readonly afterSeconds: number;
}

type Times = Pick<Figures, "versionMs" | "renewMs" | "readyMs">;
type Memory = Pick<Figures, "residentMb" | "ownMb" | "afterSeconds">;

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    idle: { type: "string", default: "60" },
    json: { type: "boolean", default: false },
    program: { type: "string" },
  },
});
const idleSeconds = Number(flags.idle);
const env = { ...process.env, NEWLEAF_NODE: process.env["NEWLEAF_NODE"] ?? process.execPath };

await using service = await startService();
const kinds = (["checkout", "package", "executable"] as const).filter(
  (kind) => flags.only === undefined || flags.only === kind,
);
const contestants: Contestant[] = [];
for (const kind of kinds) contestants.push(await enroll(service, kind));
// One after the other where time is measured, side by side where nothing is to happen.
const timed: Times[] = [];
for (const contestant of contestants) timed.push(await timeCommands(contestant));
dropFromCache(process.execPath, ...contestants.map(({ program }) => program));
const idle = await Promise.all(contestants.map(watchIdle));
const figures = contestants.map(({ kind }, at): Figures => ({
  kind,
  ...(timed[at] ?? never()),
  ...(idle[at] ?? never()),
}));
for (const { proxy } of contestants) await proxy.stop();
print(figures);

async function enroll(service: TestService, kind: Kind): Promise<Contestant> {
  const program = programOf(kind, service.dir);
  const host = testHost(service, join(service.dir, kind));
  const files = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"];
  const name = `${kind}.claw.internal`;
  host.configure({ files, reload: "watch", probe: "none" });
  const names = { dns: [name], ip: [], uri: [], email: [] };
  await service.admin("POST", "/v1/identities", { id: kind, profile: "gateway", names });
  const token = await service.token(kind);
  await runProgram(program, ["enroll", "--config", host.configFile], { env: { ...env, NEWLEAF_TOKEN: token } });
  const proxy = await startTlsServer(() =>
    createSecureContext({ key: host.file("key.pem"), cert: host.file("fullchain.pem") }),
  );
  host.configure(
    { files, reload: "watch", probe: { connect: proxy.connect, serverName: name } },
    { metrics: "127.0.0.1:0" },
  );
  return { kind, program, host, proxy };
}

/** Builds what has to be built. @returns the path of the program */
function programOf(kind: Kind, dir: string): string {
  if (flags.program !== undefined) return flags.program;
  if (kind === "checkout") return join(root, "bin", "newleaf-agent");
  const built = join(dir, "built", kind);
  if (kind === "executable") {
    mkdirSync(built, { recursive: true });
    execFileSync(process.execPath, [join(root, "build-agent.ts"), join(built, "newleaf-agent")], { stdio: "ignore" });
    return join(built, "newleaf-agent");
  }
  execFileSync(process.execPath, [join(root, "build.ts"), built], { stdio: "ignore" });
  // What npm would install; both are of this checkout's lock file.
  for (const name of ["commander", "yaml"])
    symlinkSync(join(root, "node_modules", name), join(built, "agent", "node_modules", name));
  return join(built, "agent", "bin", "newleaf-agent");
}

async function timeCommands(contestant: Contestant): Promise<Times> {
  const { program, host } = contestant;
  const time = async (...args: string[]): Promise<number> => {
    const times: number[] = [];
    for (let shot = 0; shot < shots; shot += 1) {
      const begun = performance.now();
      await runProgram(program, args, { env });
      times.push(performance.now() - begun);
    }
    return Math.min(...times);
  };
  // The first pass proves what was enrolled without a probe.
  await runProgram(program, ["renew", "--config", host.configFile], { env });
  const versionMs = await time("--version");
  const renewMs = await time("renew", "--config", host.configFile);
  const starts: number[] = [];
  for (let shot = 0; shot < shots; shot += 1) {
    await using daemon = await startAgent(contestant);
    starts.push(daemon.readyMs);
  }
  return { versionMs, renewMs, readyMs: Math.min(...starts) };
}

async function watchIdle(contestant: Contestant): Promise<Memory> {
  await using daemon = await startAgent(contestant);
  await sleep(idleSeconds * 1000);
  return { ...(await memoryOf(daemon.pid)), afterSeconds: idleSeconds };
}

interface Daemon extends AsyncDisposable {
  readonly pid: number;
  readonly readyMs: number;
}

async function startAgent({ program, host }: Contestant): Promise<Daemon> {
  const begun = performance.now();
  const child = spawn(program, ["run", "--config", host.configFile], { env, stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stderr });
  const ready = Promise.withResolvers<number>();
  lines.on("line", (line) => {
    if (/ info ready /.test(line)) ready.resolve(performance.now() - begun);
    else if (/ (?:warn|error) /.test(line)) process.stderr.write(`${line}\n`);
  });
  lines.once("close", () => ready.reject(new Error(`${program} run did not stay`)));
  return {
    readyMs: await ready.promise,
    pid: child.pid ?? never(),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/**
 * A file that was just written lies in the page cache in large pieces, and all of a piece counts as resident with whoever touches a byte
 * of it: twice as much as the same file read from the disk, which is what a host has.
 */
function dropFromCache(...files: readonly string[]): void {
  execFileSync("sync", files);
  for (const file of files) execFileSync("dd", [`if=${file}`, "iflag=nocache", "count=0"], { stdio: "ignore" });
}

/** MB resident, and of that what is not shared with files that the system could drop and read again. */
async function memoryOf(pid: number): Promise<Omit<Memory, "afterSeconds">> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  const mb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? "NaN") / 1024;
  return { residentMb: mb("Rss"), ownMb: mb("Anonymous") };
}

function print(measured: readonly Figures[]): void {
  if (flags.json) return void process.stdout.write(`${JSON.stringify(measured)}\n`);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  process.stdout.write(`newleaf-agent ${version}, launched by Node ${process.version}\n`);
  const row = (...cells: string[]): string => `| ${cells.join(" | ")} |\n`;
  process.stdout.write(
    row(
      "",
      "`--version`",
      "`renew`, nothing due",
      "`run` to `ready`",
      `resident after ${idleSeconds} s`,
      "of it its own",
    ),
  );
  process.stdout.write(row("---", "---", "---", "---", "---", "---"));
  for (const { kind, versionMs, renewMs, readyMs, residentMb, ownMb } of measured)
    process.stdout.write(
      row(
        kind,
        ...[versionMs, renewMs, readyMs].map((ms) => `${(ms / 1000).toFixed(2)} s`),
        ...[residentMb, ownMb].map((mb) => `${mb.toFixed(0)} MB`),
      ),
    );
}

function never(): never {
  throw new Error("a contestant has no figures");
}
