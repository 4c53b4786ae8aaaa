/** Starting, stopping and asking the version of the real servers that targets are. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { accepts, startDaemon } from "./processes.ts";
import { findProgram } from "./programs.ts";
import type { Place, TargetServer } from "./target.ts";

export interface ServerOptions {
  /** In the foreground; the program is looked for in the usual places. */
  readonly argv: readonly string[];
  /** Waited for, when the server writes one. */
  readonly pidFile?: string;
  /** What it logs elsewhere than on stdout and stderr. */
  readonly log?: () => string;
  /** The account it is started as; for servers that refuse root. */
  readonly account?: { readonly uid: number; readonly gid: number };
}

/** Starts a server in the foreground and waits until it accepts connections. Fails with its own words. */
export async function startTargetServer(place: Pick<Place, "port">, options: ServerOptions): Promise<TargetServer> {
  const [name = "", ...args] = options.argv;
  const daemon = startDaemon(findProgram(name) ?? name, args, options.account);
  const log = (): string => `${daemon.output()}${options.log?.() ?? ""}`;
  const isUp = (await accepts(place.port, daemon)) && (await hasPid(options.pidFile));
  if (!isUp) {
    await daemon.stop();
    throw new Error(`${name} did not start: ${log()}`);
  }
  return { stop: () => daemon.stop(), log };
}

/** True at once when no pid file is awaited. */
export async function hasPid(pidFile: string | undefined): Promise<boolean> {
  if (pidFile === undefined) return true;
  for (let tries = 0; tries < 200; tries += 1) {
    if (existsSync(pidFile) && readFileSync(pidFile, "utf8").trim() !== "") return true;
    await sleep(10);
  }
  return false;
}

/** What the program says of itself. @returns "?" when the program is not there: then its test is skipped */
export function versionOf(argv: readonly string[], pattern: RegExp): string {
  const [name = "", ...args] = argv;
  const program = findProgram(name);
  if (program === null) return "?";
  const { stdout, stderr } = spawnSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? "?";
}

/** The account of a server that is not to run as root, from /etc/passwd; undefined when the tests are not root, or it is not there. */
export function accountOf(name: string): { readonly uid: number; readonly gid: number } | undefined {
  if (process.geteuid?.() !== 0) return undefined;
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((each) => each.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}
