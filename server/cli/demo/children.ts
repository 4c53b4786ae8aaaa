/** Programs that run while the demo runs, and never longer. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "../../config.ts";
import { DemoFailure } from "./failure.ts";

export interface ProgramOptions {
  /** How messages name it: `the service`. */
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Environment;
  /** Every line of stdout and stderr, as it comes. */
  readonly onLine?: (line: string) => void;
  /** It ended though nobody had asked it to. */
  readonly onUnexpectedEnd?: (failure: DemoFailure) => void;
}

export interface Program extends AsyncDisposable {
  readonly pid: number;
  /** Exit code, or null after a signal. */
  readonly ended: Promise<number | null>;
  /** The end of what it said, for a message about its failure. */
  lastWords(): string;
}

const lastLines = 15;
const patienceMs = 4000;
const running = new Set<number>();

/** Starts a program. Disposing it sends SIGTERM and, to what is still there after four seconds, SIGKILL. */
export async function startProgram(options: ProgramOptions): Promise<Program> {
  const { name, program, args, env } = options;
  // A group of its own: Ctrl-C reaches the demo alone, which ends everything in order, and one signal ends the whole group.
  const child = spawn(program, args, { env: { ...env }, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const ended = Promise.withResolvers<number | null>();
  child.once("close", (code) => {
    running.delete(child.pid ?? 0);
    ended.resolve(code);
  });
  await spawned(child, name, program);
  const pid = child.pid ?? 0;
  running.add(pid);

  const tail: string[] = [];
  const take = (line: string): void => {
    if (tail.push(line) > lastLines) tail.shift();
    options.onLine?.(line);
  };
  for (const stream of [child.stdout, child.stderr]) readLines(stream, take);
  const lastWords = (): string => tail.map((line) => `\n    ${line}`).join("");
  let isStopping = false;
  child.once("close", (code) => {
    if (isStopping) return;
    const how = code === null ? "was killed" : `ended with ${code}`;
    options.onUnexpectedEnd?.(new DemoFailure(`${name} ${how} while the demo needed it. It said:${lastWords()}`));
  });
  return {
    pid,
    ended: ended.promise,
    lastWords,
    async [Symbol.asyncDispose]() {
      isStopping = true;
      if (!running.has(pid)) return;
      child.kill("SIGTERM");
      await Promise.race([ended.promise, sleep(patienceMs, undefined, { ref: false })]);
      killGroup(pid);
      await ended.promise;
    },
  };
}

/** The last resort, when the process ends without having disposed everything: nothing stays behind. */
export function killAll(): void {
  for (const pid of running) killGroup(pid);
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group has ended.
  }
}

async function spawned(child: ChildProcess, name: string, program: string): Promise<void> {
  try {
    await once(child, "spawn");
  } catch (error) {
    throw new DemoFailure(`${name} could not be started (${program}): ${(error as Error).message}`, { cause: error });
  }
}

function readLines(stream: Readable, take: (line: string) => void): void {
  createInterface({ input: stream, crlfDelay: Infinity }).on("line", take);
}
