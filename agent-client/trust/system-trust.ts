/**
 * The roots of the trust bundle in the system's own store, for programs that know no other (`systemTrust` of agent.yml): one file for each
 * root in the directory for local additions, and the command that takes them in, run when something changed. Only roots that the
 * agent's trust store accepted get here.
 */
import { createHash } from "node:crypto";
import { readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "@newleaf/shared/clock";
import { writeFileDurably } from "@newleaf/shared/durable-file";
import { pemEncode } from "@newleaf/shared/pem";
import { retryAt } from "../decide/backoff.ts";
import { openSection, readArgv, readPath, type Section } from "../config/section.ts";
import { explained, InstallError, systemCode } from "../install/target.ts";
import type { Log } from "../log.ts";
import { runProgram, systemSearchPath } from "../reload/run-program.ts";
import { sleep } from "../wake.ts";

export interface SystemTrust {
  /** Where the system looks for local roots, one in each `.crt` file. */
  readonly directory: string;
  /** Takes them in: a program and its arguments. */
  readonly command: readonly string[];
}

/** Debian's ca-certificates: update-ca-certificates(8). */
export const debianTrust: SystemTrust = Object.freeze({
  directory: "/usr/local/share/ca-certificates",
  command: Object.freeze(["update-ca-certificates"]),
});

export interface SystemTrustFailure {
  readonly message: string;
  readonly at: number;
  readonly failures: number;
  readonly notBefore: number;
}

/** `state/system-trust.json`. */
export interface SystemTrustRecord {
  readonly format: 1;
  readonly directory: string;
  /** The files that are ours, those that are being added or removed included. */
  readonly files: readonly string[];
  /** Digest of what the command took in last; null while that is not known. */
  readonly taken: string | null;
  readonly failure: SystemTrustFailure | null;
}

export interface SystemTrustKeeper {
  /**
   * Makes the system's store what the trust bundle is. Never throws: what goes wrong is logged, kept for `status`, and tried again
   * with back-off.
   * @param options `now`: whatever the back-off says
   * @returns false while it is not
   */
  sync(options?: { readonly now?: boolean }): Promise<boolean>;
  /** Keeps it so until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
  readonly failure: SystemTrustFailure | null;
}

export interface SystemTrustContext {
  readonly settings: SystemTrust;
  /** The agent's state directory. */
  readonly state: string;
  /** The bundle in force; version 0 is none yet. `revision` rises with every change. */
  readonly trust: {
    readonly trust: { readonly version: number; readonly roots: readonly Buffer[] };
    readonly revision: number;
  };
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

const recordFile = "system-trust.json";
/** update-ca-certificates runs hooks, Java's among them. */
const commandTimeoutMs = 120_000;
const lookEveryMs = 2000;
/** Somebody may have removed them. */
const lookAtDiskEveryMs = 10 * 60_000;
const pauses = { baseMs: 5000, capMs: 30 * 60_000 };

/** @throws the system error when the state directory cannot be read */
export async function openSystemTrust(context: SystemTrustContext): Promise<SystemTrustKeeper> {
  let record = await readSystemTrust(context.state);
  let seen = { revision: -1, at: 0 };
  const keep = async (next: SystemTrustRecord): Promise<void> => {
    // First in memory: on a disk that is full the back-off still holds.
    record = next;
    await writeFileDurably(join(context.state, recordFile), `${JSON.stringify(next)}\n`, { mode: 0o600 });
  };
  const keeper: SystemTrustKeeper = {
    get failure() {
      return record?.failure ?? null;
    },
    async sync({ now = false } = {}) {
      const at = context.clock.now();
      if (!now && record?.failure != null && isHeld(record.failure, at)) return false;
      try {
        await bring(context, record, keep);
        return true;
      } catch (error) {
        await noteFailure(context, record, keep, error);
        return false;
      }
    },
    async run(signal) {
      while (!signal.aborted) {
        const at = context.clock.now();
        const isStale = Math.abs(at - seen.at) >= lookAtDiskEveryMs || keeper.failure !== null;
        if (seen.revision !== context.trust.revision || isStale) {
          const { revision } = context.trust;
          if (await keeper.sync()) seen = { revision, at };
        }
        await sleep(lookEveryMs, signal);
      }
    },
  };
  return keeper;
}

/** What is known of it, for who only looks. Null: never done. */
export async function readSystemTrust(state: string): Promise<SystemTrustRecord | null> {
  try {
    const value = JSON.parse(await readFile(join(state, recordFile), "utf8")) as SystemTrustRecord;
    return value.format === 1 && Array.isArray(value.files) && typeof value.directory === "string" ? value : null;
  } catch (error) {
    // Damaged is like never done: the files are written again; what had left the bundle before stays for a human.
    if (error instanceof SyntaxError || systemCode(error) === "ENOENT") return null;
    throw error;
  }
}

/** `true`, `false`, or `{ directory, command }`. */
export function readSystemTrustSettings(section: Section, problems: string[]): SystemTrust | null {
  const value = section.raw("systemTrust");
  if (value === undefined || value === "false") return null;
  if (value === "true") return debianTrust;
  const part = openSection(value, "systemTrust", ["directory", "command"], problems);
  if (part === null) return null;
  const command = readArgv(part, "command");
  if (command === undefined) part.problem("command", "is missing, such as [update-ca-trust, extract]");
  return { directory: readPath(part, "directory"), command: command ?? [] };
}

type Keep = (next: SystemTrustRecord) => Promise<void>;

async function bring(
  { settings, trust, log }: SystemTrustContext,
  record: SystemTrustRecord | null,
  keep: Keep,
): Promise<void> {
  if (trust.trust.version === 0) return;
  const { directory, command } = settings;
  const wanted = new Map(trust.trust.roots.map((root) => [nameOf(root), pemEncode("CERTIFICATE", root)]));
  const taken = digestOf(settings, wanted);
  const isMoved = record !== null && record.directory !== directory;
  const ours = isMoved ? [] : (record?.files ?? []);
  const gone = ours.filter((name) => !wanted.has(name));
  const missing: [string, string][] = [];
  for (const [name, pem] of wanted) if ((await textOf(join(directory, name))) !== pem) missing.push([name, pem]);
  if (!isMoved && gone.length === 0 && missing.length === 0 && record?.taken === taken) {
    if (record.failure !== null) await keep({ ...record, failure: null });
    return;
  }

  if (isMoved) for (const name of record.files) await remove(join(record.directory, name));
  // 1. That they are ours, before they are there: after a crash they can still be removed.
  const failure = record?.failure ?? null;
  await keep({ format: 1, directory, files: [...new Set([...ours, ...wanted.keys()])], taken: null, failure });
  // 2. What came before what left: at no moment is there less than both have.
  for (const [name, pem] of missing) {
    const path = join(directory, name);
    await explained(`writing ${path}`, () => writeFileDurably(path, pem, { mode: 0o644 }));
  }
  for (const name of gone) await remove(join(directory, name));
  // 3. The system takes them in.
  const { ok, detail } = await runProgram(command, { timeoutMs: commandTimeoutMs, searchPath: systemSearchPath });
  if (!ok) throw new InstallError(`the system's trust store was not renewed: ${detail}`);
  await keep({ format: 1, directory, files: [...wanted.keys()], taken, failure: null });
  log.info("system-trust", { directory, roots: wanted.size, added: missing.length, removed: gone.length });
}

async function noteFailure(
  { clock, random, log, settings }: SystemTrustContext,
  record: SystemTrustRecord | null,
  keep: Keep,
  error: unknown,
): Promise<void> {
  const now = clock.now();
  const failures = (record?.failure?.failures ?? 0) + 1;
  const notBefore = retryAt({ now, failures, ...pauses, deadline: null, random: random() });
  const message = error instanceof Error ? error.message : String(error);
  log.error("system-trust-failed", { why: message, failures, retry: new Date(notBefore).toISOString() });
  const blank = { format: 1, directory: settings.directory, files: [], taken: null } as const;
  try {
    await keep({ ...(record ?? blank), failure: { message, at: now, failures, notBefore } });
  } catch (unwritable) {
    log.error("cannot-record", { why: (unwritable as Error).message });
  }
}

/** A time further away than any pause was written by a clock that was wrong. */
function isHeld({ notBefore }: SystemTrustFailure, now: number): boolean {
  return notBefore > now && notBefore <= now + 2 * pauses.capMs;
}

/** By content: a root that is renewed with the same key is another file. */
function nameOf(root: Buffer): string {
  return `newleaf-${sha256(root).slice(0, 16)}.crt`;
}

function digestOf({ directory, command }: SystemTrust, wanted: ReadonlyMap<string, string>): string {
  return sha256(Buffer.from(JSON.stringify([directory, command, [...wanted.keys()].toSorted()])));
}

function sha256(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

async function textOf(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (systemCode(error) === "ENOENT") return null;
    return explained(`reading ${path}`, () => Promise.reject(error));
  }
}

async function remove(path: string): Promise<void> {
  await explained(`removing ${path}`, async () => {
    try {
      await unlink(path);
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
    }
  });
}
