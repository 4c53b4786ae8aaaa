/**
 * Stands in for servers that Debian does not ship, in the one thing that matters here: how they take new certificates, as their
 * documentation and source say. What a test proves with it holds for the real server as far as that is true.
 */
import { copyFileSync, linkSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { accepts, startDaemon } from "./processes.ts";

export interface StandInPlan {
  readonly port: number;
  /**
   * `watch-files`: OpenClaw, polls the files; a pair that does not fit leaves the old one. `watched-directory`: Envoy, looks again when
   * something is moved into `watched`. `dynamic-file`: Traefik, looks again when the file `watched` is written; a pair that does not fit
   * leaves it without a certificate. `hup`: Vault, reads certificate and key at SIGHUP, the CAs only as it starts.
   */
  readonly takes: "watch-files" | "watched-directory" | "dynamic-file" | "hup";
  readonly certificate: string;
  readonly key: string;
  /** CAs of client certificates, which are then demanded. */
  readonly ca: string | null;
  readonly crl: string | null;
  /** Directory or file; empty where the mechanism has none. */
  readonly watched: string;
}

export interface StandIn {
  readonly pid: number;
  readonly pidFile: string;
  /** False once it ended, by a signal for example. */
  isRunning(): boolean;
  log(): string;
  stop(): Promise<void>;
}

/** Starts it with a pid file in `dir`; one that takes signals is a process called `name`, its executable too. @throws Error when it does not start */
export async function startStandIn(name: string, dir: string, plan: StandInPlan): Promise<StandIn> {
  await mkdir(dir, { recursive: true });
  const program = plan.takes === "hup" ? nameProgram(join(dir, name)) : process.execPath;
  const daemon = startDaemon(program, [join(import.meta.dirname, "stand-in-program.ts"), JSON.stringify(plan)]);
  const { child } = daemon;
  const isRunning = (): boolean => child.exitCode === null && child.signalCode === null;
  if (!(await accepts(plan.port, daemon, 20_000))) {
    await daemon.stop();
    throw new Error(`${name} (stand-in) did not start: ${daemon.output()}`);
  }
  const pidFile = join(dir, `${name}.pid`);
  await writeFile(pidFile, `${child.pid}\n`);
  return { pid: child.pid ?? 0, pidFile, isRunning, log: daemon.output, stop: daemon.stop };
}

/** Node by another name: whoever signals a process looks at its name and executable first. */
function nameProgram(program: string): string {
  for (const make of [linkSync, copyFileSync]) {
    try {
      make(process.execPath, program);
      return program;
    } catch (error) {
      // Started before in this directory; or on another file system, where only a copy will do.
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return program;
      if (make === copyFileSync) throw error;
    }
  }
  return program;
}
