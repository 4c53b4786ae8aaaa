import { constants, open, readFile, readlink, stat } from "node:fs/promises";
import { basename, isAbsolute, join } from "node:path";
import type { ReloadResult, ReloadSignal, SignalStrategy } from "./strategy.ts";

interface Manners {
  /** What to write instead. */
  readonly instead: string;
  /** What its other signals do. */
  readonly harm: Partial<Record<ReloadSignal, string>>;
}

const apache: Manners = {
  instead: "signal: USR1, which is graceful",
  harm: { HUP: "restarts Apache at once and cuts its connections", USR2: "tells Apache nothing" },
};

const stunnel: Manners = {
  instead: "signal: HUP",
  harm: { USR1: "only reopens stunnel's log", USR2: "only makes stunnel list its connections" },
};

/**
 * Signals that are known not to reload but to break the server, or to do nothing, by process name: worse than no reload, so
 * never sent. Whoever knows better has `command`. What is said here was tried with Debian 12's packages.
 */
const harmful: Readonly<Record<string, Manners>> = {
  nginx: {
    instead: "signal: HUP",
    harm: { USR1: "only reopens nginx's logs", USR2: "starts a second nginx master beside the first" },
  },
  haproxy: {
    instead: "signal: USR2 to the master (haproxy -W)",
    harm: { USR1: "makes HAProxy close its listeners and end" },
  },
  apache2: apache,
  httpd: apache,
  stunnel4: stunnel,
  stunnel,
  hitch: { instead: "signal: HUP", harm: { USR1: "kills Hitch", USR2: "kills Hitch" } },
  mosquitto: {
    instead: "signal: HUP",
    harm: { USR1: "only makes Mosquitto save its database", USR2: "only makes Mosquitto print its subscriptions" },
  },
  postgres: {
    instead: "signal: HUP",
    harm: { USR1: "is PostgreSQL's own, between its processes", USR2: "is PostgreSQL's own, between its processes" },
  },
  vault: {
    instead: "signal: HUP",
    harm: { USR1: "tells Vault nothing", USR2: "makes Vault write stack traces" },
  },
  "redis-server": {
    instead: "reload: { redis: … }",
    harm: { HUP: "tells Redis nothing", USR1: "kills Redis", USR2: "kills Redis" },
  },
  caddy: {
    instead: "reload: { caddy: … }",
    harm: { HUP: "tells Caddy nothing", USR1: "tells Caddy nothing", USR2: "tells Caddy nothing" },
  },
  envoy: {
    instead: "reload: watch, with file SDS and watched_directory",
    harm: { HUP: "tells Envoy nothing", USR1: "only reopens Envoy's logs", USR2: "tells Envoy nothing" },
  },
  traefik: {
    instead: "reload: { touch: … }, its dynamic file",
    harm: { HUP: "ends Traefik", USR1: "only reopens Traefik's logs", USR2: "tells Traefik nothing" },
  },
};

/** Processes that no signal reloads and some signals kill. The main thread of newer Node versions has a name of its own. */
const neverSignalled: readonly (readonly [name: RegExp, why: string])[] = [
  [
    /^openclaw/,
    "signals kill OpenClaw, open a debugger in it or cut its WebSockets; it watches its files: use reload: watch",
  ],
  [/^defenseclaw/, "HUP shuts DefenseClaw down, and it has no TLS of its own: reload the proxy in front of it"],
  [
    /^(node|nodejs|(node-)?MainThread)$/,
    "signals kill a Node process or open its debugger; let it watch its files (reload: watch), or use command",
  ],
  [/exporter$/, "HUP ends Prometheus's exporters; they read their files at each handshake: use reload: watch"],
];

/** As much of a name as the kernel keeps in /proc/PID/comm (TASK_COMM_LEN 16, with its NUL). */
const commLength = 15;
const maxPidFile = 4096;

/** The process that a pid file named, as it was looked at. */
interface Seen {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: together with the pid it names one process for as long as the machine runs. */
  readonly startTime: string;
  readonly name: string;
  readonly uid: number;
}

/** Why nothing was signalled. */
class Unfit extends Error {}

/**
 * Sends the signal to the process of the pid file, if that is the process that was meant: the file is read now, `process` must
 * be its name or executable, and it must still be the same process (start time) when the signal goes out. When anything does
 * not fit nothing is signalled: the pid may long belong to somebody else.
 */
export async function reloadBySignal(strategy: SignalStrategy, proc = "/proc"): Promise<ReloadResult> {
  const { pidFile } = strategy;
  return signalFound(strategy, { of: pidFile, read: () => readPid(pidFile) }, proc);
}

/** Who is to be signalled, and where that is from. */
export interface PidSource {
  /** For messages. */
  readonly of: string;
  read(): Promise<number>;
}

type Wanted = Pick<SignalStrategy, "signal" | "process">;

/** As `reloadBySignal`, for a pid that is known otherwise. Never throws. */
export async function signalFound(strategy: Wanted, source: PidSource, proc = "/proc"): Promise<ReloadResult> {
  try {
    refuseHarmful(strategy, strategy.process);
    const seen = await look(strategy, source, proc);
    // The server may have been restarted while we looked: both must still say the same right before the signal.
    const again = await look(strategy, source, proc);
    if (again.pid !== seen.pid || again.startTime !== seen.startTime) {
      throw new Unfit("the process changed while it was looked at: nothing was signalled, try again");
    }
    process.kill(seen.pid, `SIG${strategy.signal}`);
    const who = `${seen.name}, pid ${seen.pid}, uid ${seen.uid}`;
    if ((await startTimeOf(seen.pid, proc)) !== seen.startTime) {
      return { ok: false, detail: `sent ${strategy.signal} to ${who}, and the process ended: look at its log` };
    }
    return { ok: true, detail: `sent ${strategy.signal} to ${who}` };
  } catch (error) {
    return { ok: false, detail: explain(strategy, source, error) };
  }
}

/** Why this process could not be signalled now, or null. Signals nobody. */
export async function whyNotSignal(strategy: Wanted, source: PidSource, proc = "/proc"): Promise<string | null> {
  try {
    refuseHarmful(strategy, strategy.process);
    const { pid } = await look(strategy, source, proc);
    process.kill(pid, 0);
    return null;
  } catch (error) {
    return explain(strategy, source, error);
  }
}

/** The process that would be signalled; null when there is none that may be. Never throws. */
export async function signalledProcess(
  strategy: SignalStrategy,
  proc = "/proc",
): Promise<{ readonly pid: number; readonly name: string } | null> {
  const { pidFile } = strategy;
  try {
    return await look(strategy, { of: pidFile, read: () => readPid(pidFile) }, proc);
  } catch {
    return null;
  }
}

export function describeSignal(strategy: SignalStrategy): string {
  return `kill -${strategy.signal} $(cat ${strategy.pidFile}) if that is ${strategy.process}`;
}

export async function validateSignal(strategy: SignalStrategy, proc = "/proc"): Promise<readonly string[]> {
  const problems: string[] = [];
  if (!isAbsolute(strategy.pidFile))
    problems.push(`pidFile ${strategy.pidFile} is a relative path: write it from / on`);
  if (strategy.process === "")
    problems.push("process is empty: write the name of the server's program, for example nginx");
  if (problems.length > 0) return problems;
  const { pidFile } = strategy;
  const why = await whyNotSignal(strategy, { of: pidFile, read: () => readPid(pidFile) }, proc);
  return why === null ? [] : [why];
}

/** `name`: as configured, or as the process itself is called: a Node program may have any title. */
function refuseHarmful({ signal }: Wanted, name: string): void {
  const program = basename(name);
  const never = neverSignalled.find(([pattern]) => pattern.test(program));
  if (never !== undefined) throw new Unfit(`${program} is never signalled: ${never[1]}`);
  if (!Object.hasOwn(harmful, program)) return;
  const { instead, harm } = harmful[program] ?? { instead: "", harm: {} };
  const why = harm[signal];
  if (why !== undefined) throw new Unfit(`${signal} ${why}: nothing was signalled; use ${instead}`);
}

async function look(strategy: Wanted, source: PidSource, proc: string): Promise<Seen> {
  const { process: wanted } = strategy;
  const pid = await source.read();
  const startTime = await startTimeOf(pid, proc);
  if (startTime === null) {
    throw new Unfit(`${source.of} names pid ${pid}, and no such process runs: start the server, or correct pidFile`);
  }
  const comm = (await readFile(join(proc, String(pid), "comm"), "utf8")).trimEnd();
  const exe = await executableOf(pid, proc);
  if (!fits(wanted, comm, exe)) {
    const is = exe === null ? comm : `${comm} (${exe})`;
    throw new Unfit(
      `pid ${pid} of ${source.of} is ${is}, not ${wanted}: nothing was signalled; correct pidFile or process`,
    );
  }
  for (const name of [comm, exe ?? comm]) refuseHarmful(strategy, name);
  const { uid } = await stat(join(proc, String(pid)));
  return { pid, startTime, name: comm, uid };
}

async function readPid(pidFile: string): Promise<number> {
  const text = await readStart(pidFile);
  // PostgreSQL writes more lines below; the pid is the first in every server's file.
  const digits = /^\s*(\d{1,10})\s*(\n|$)/.exec(text)?.[1];
  const pid = Number(digits ?? Number.NaN);
  // kill(2): 0 would be our own process group.
  if (!Number.isSafeInteger(pid) || pid < 1 || pid === process.pid) {
    throw new Unfit(`${pidFile} does not hold the pid of a server: is it the right file, and is the server running?`);
  }
  return pid;
}

/** The directory may be the server's own user's: what is there may be a pipe that nobody writes to, or a device without end. */
async function readStart(pidFile: string): Promise<string> {
  const file = await open(pidFile, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await file.stat()).isFile()) throw new Unfit(`${pidFile} is not a regular file: name the server's pid file`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(maxPidFile), 0, maxPidFile, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Null when there is no such process, or only what its parent has not yet buried. */
async function startTimeOf(pid: number, proc: string): Promise<string | null> {
  try {
    const text = await readFile(join(proc, String(pid), "stat"), "utf8");
    // The name, field 2, stands in parentheses and may itself hold spaces and parentheses. Field 3 is the state.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    return state === "Z" || state === "X" ? null : (fields[22 - 3] ?? null);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** Null when we may not see it (a process of another user). */
async function executableOf(pid: number, proc: string): Promise<string | null> {
  try {
    // The kernel adds this when a package upgrade replaced the file under the running server.
    return (await readlink(join(proc, String(pid), "exe"))).replace(/ \(deleted\)$/, "");
  } catch {
    return null;
  }
}

function fits(wanted: string, comm: string, exe: string | null): boolean {
  if (isAbsolute(wanted)) return exe === wanted;
  return comm === wanted.slice(0, commLength) || (exe !== null && basename(exe) === wanted);
}

function isGone(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH");
}

function explain({ process: wanted }: Wanted, { of }: PidSource, error: unknown): string {
  if (error instanceof Unfit) return error.message;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return `${of} is not there: is ${wanted} running, and is this its pid file?`;
  if (code === "ESRCH") return `${wanted} ended while it was looked at: nothing was signalled`;
  if (code === "EPERM") {
    return `the agent may not signal ${wanted}: run it as root, as the same user, with CAP_KILL, or use systemd to reload`;
  }
  return `${wanted} could not be signalled: ${String(error)}`;
}
