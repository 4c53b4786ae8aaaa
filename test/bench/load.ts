/** The load generator: load.c where there is a C compiler with OpenSSL's headers, else a client in Node (then wall rates are the client's). */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { findProgram } from "../support/programs.ts";
import type { Fleet } from "./fleet.ts";
import { loadFromNode } from "./node-load.ts";

const run = promisify(execFile);

export type LoadMode = "ping" | "fresh" | "kept";

export interface LoadRequest {
  readonly mode: LoadMode;
  readonly port: number;
  /** Which of the fleet, and how many requests. */
  readonly from: number;
  readonly count: number;
  /** Whose CPU time is read. */
  readonly pid: number;
}

export interface LoadResult {
  readonly count: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** CPU time of the process at `pid`, all threads, a request. */
  readonly cpuMs: number;
  /** Connections and requests without an answer. */
  readonly failures: number;
  /** Answers by status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Of the certificates that were answered. */
  readonly serials: readonly string[];
}

const loadLibraries = ["-lssl", "-lcrypto", "-lpthread"];

/** In flight at once. */
export const concurrency = 16;

export interface LoadGenerator {
  readonly kind: "C" | "Node";
  readonly fire: (fleet: Fleet, request: LoadRequest) => Promise<LoadResult>;
}

/** Compiles what it needs into `dir`. */
export async function loadGenerator(dir: string): Promise<LoadGenerator> {
  const program = await compileLoad(dir);
  if (program === null) {
    console.log(
      "no C compiler with OpenSSL's headers (apt-get install gcc libssl-dev): a Node client instead; wall rates are then the client's, CPU figures hold",
    );
    return { kind: "Node", fire: loadFromNode };
  }
  return {
    kind: "C",
    async fire(fleet, { mode, port, from, count, pid }) {
      const serialsFile = join(dir, "serials");
      const numbers = [from, count, concurrency, pid].map(String);
      const { stdout } = await run(program, [
        mode,
        String(port),
        fleet.tuplesFile,
        fleet.chainFile,
        ...numbers,
        serialsFile,
      ]);
      const serials = (await readFile(serialsFile, "utf8")).split("\n").filter((line) => line !== "");
      return { ...(JSON.parse(stdout) as Omit<LoadResult, "serials">), serials };
    },
  };
}

/** For LD_PRELOAD, or null without a C compiler. */
export async function slowFsyncLibrary(dir: string): Promise<string | null> {
  return compile(dir, "slow-fsync", ["-shared", "-fPIC", "-ldl"]);
}

/** The C load generator by itself, for what has no counterpart in Node; null without a C compiler. */
export function compileLoad(dir: string): Promise<string | null> {
  return compile(dir, "load", loadLibraries);
}

async function compile(dir: string, name: string, flags: readonly string[]): Promise<string | null> {
  const compiler = findProgram("cc");
  if (compiler === null) return null;
  const output = join(dir, flags.includes("-shared") ? `${name}.so` : name);
  try {
    await run(compiler, ["-O2", "-o", output, join(import.meta.dirname, `${name}.c`), ...flags]);
    return output;
  } catch {
    return null;
  }
}
