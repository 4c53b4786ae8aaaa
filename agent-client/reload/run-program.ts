import { spawn } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface ProgramOptions {
  readonly timeoutMs: number;
  readonly searchPath: string;
  readonly signal?: AbortSignal | undefined;
  /** More for its environment; never a secret, because others may read it. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface ProgramResult {
  readonly ok: boolean;
  /** One line: how it ended, and the beginning of what it said. */
  readonly detail: string;
  /** The first 4 KiB of stdout and stderr together. */
  readonly output: string;
  /** Null: it did not start, or was ended by a signal. */
  readonly exitCode: number | null;
}

/** nginx and haproxy live in /usr/sbin, which is on no normal user's PATH: the search does not depend on who starts the agent. */
export const systemSearchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** All a child sees of the agent's environment: it may hold an enrollment token. */
const passedOn = ["HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
const maxOutput = 4096;
const maxDetail = 600;
/** Between SIGTERM and SIGKILL. */
const graceMs = 2000;
/** A daemon started by the command may keep its output open for ever: only what comes right after its end still counts. */
const lastWordsMs = 100;

/**
 * Runs a program without a shell, in a process group of its own, with nothing on stdin and hardly any environment. When the
 * time is over the whole group is ended. Never throws.
 */
export async function runProgram(argv: readonly string[], options: ProgramOptions): Promise<ProgramResult> {
  const [name, ...args] = argv;
  const program = name === undefined ? null : await findProgram(name, options.searchPath);
  if (name === undefined || program === null) return failed(programProblem(name, options.searchPath));
  if (options.signal?.aborted === true) return failed(`${argv.join(" ")} was not run: the agent is stopping`);
  const child = spawn(program, args, {
    cwd: "/",
    detached: true,
    env: { ...childEnvironment(options.searchPath), ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = collect([child.stdout, child.stderr]);
  const ended = new Promise<string | null>((resolve) => {
    child.once("error", (error) => resolve(`could not be started: ${error.message}`));
    child.once("exit", (code, signal) => resolve(code === 0 ? null : `ended with ${signal ?? `exit code ${code}`}`));
  });
  const failure = await withDeadline(ended, child.pid, options);
  if (child.pid !== undefined) await Promise.race([output.closed, sleep(lastWordsMs)]);
  child.stdout.destroy();
  child.stderr.destroy();
  const said = output.text();
  const how = `${argv.join(" ")} ${failure ?? "ended well"}`;
  const detail = oneLine(said === "" ? how : `${how}: ${said}`);
  return { ok: failure === null, detail, output: said, exitCode: child.exitCode };
}

function failed(detail: string): ProgramResult {
  return { ok: false, detail, output: "", exitCode: null };
}

/** The absolute path of a program that can be run, or null. A name with a slash must be absolute. */
export async function findProgram(name: string, searchPath: string): Promise<string | null> {
  const candidates = name.includes("/")
    ? [name].filter(isAbsolute)
    : searchPath.split(delimiter).map((place) => join(place, name));
  for (const path of candidates) {
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return null;
}

export function programProblem(name: string | undefined, searchPath: string): string {
  if (name === undefined || name === "") return "the command is empty: write the program and its arguments as a list";
  if (!name.includes("/")) return `${name} is in none of ${searchPath}: install it, or write its absolute path`;
  if (!isAbsolute(name)) return `${name} is a relative path: write it from / on`;
  return `${name} is not there or may not be run: correct the path, or its mode`;
}

/** Null when the program ended by itself and well; else what happened. */
async function withDeadline(
  ended: Promise<string | null>,
  pid: number | undefined,
  { timeoutMs, signal }: ProgramOptions,
): Promise<string | null> {
  const timer = new AbortController();
  const stop = new Promise<string>((resolve) => {
    signal?.addEventListener("abort", () => resolve("was ended because the agent is stopping"), {
      signal: timer.signal,
    });
  });
  const late = sleep(timeoutMs, `took longer than ${timeoutMs / 1000} s and was ended`, { signal: timer.signal });
  try {
    const first = await Promise.race([
      ended.then((failure) => ({ failure, over: true })),
      Promise.race([late, stop]).then((failure) => ({ failure, over: false })),
    ]);
    if (first.over || pid === undefined) return first.failure;
    endGroup(pid, "SIGTERM");
    const gone = await Promise.race([ended.then(() => true), sleep(graceMs, false, { signal: timer.signal })]);
    // Also when the leader is gone: the rest of its group may not be.
    endGroup(pid, "SIGKILL");
    if (!gone) await ended;
    return first.failure;
  } finally {
    timer.abort();
    late.catch(() => undefined);
  }
}

function endGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // ESRCH: nobody left.
  }
}

function collect(streams: readonly NodeJS.ReadableStream[]): { closed: Promise<unknown>; text(): string } {
  const chunks: Buffer[] = [];
  let size = 0;
  const closed = streams.map((stream) => {
    stream.on("data", (chunk: Buffer) => {
      // Read on and drop: a full pipe would block the program.
      const rest = chunk.subarray(0, Math.max(0, maxOutput - size));
      size += rest.length;
      if (rest.length > 0) chunks.push(rest);
    });
    return new Promise((resolve) => stream.once("close", resolve));
  });
  return { closed: Promise.all(closed), text: () => Buffer.concat(chunks).toString("utf8").trim() };
}

function childEnvironment(searchPath: string): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = { PATH: searchPath };
  for (const name of passedOn) if (process.env[name] !== undefined) environment[name] = process.env[name];
  return environment;
}

/** What another program said, as one line of ours. */
export function oneLine(text: string): string {
  // Control characters would let a program's output pass for other log lines.
  // oxlint-disable-next-line no-control-regex
  const line = text.replaceAll(/[\u0000-\u001f\u007f]+/g, " ");
  return line.length <= maxDetail ? line : `${line.slice(0, maxDetail)}…`;
}
