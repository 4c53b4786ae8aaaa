/**
 * What was begun for one certificate and how far it got. It survives kill -9 at any line: each change replaces the file in one
 * durable step, an arrow is written before it is taken, and every arrow can be taken twice.
 *
 *   idle → due → key-made → asked → received → checked → staged → announced →
 *   switched → reloaded → served → reported → idle
 *
 * `step` names the arrow under way. What to do next never follows from `step` alone: `decide` looks at what is (the leaves held,
 * the files on disk, the handshake just made) and `step` tells people, and the tests, where it happened.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectory, writeFileDurably } from "@newleaf/shared/durable-file";
import { noFailures, type Retry } from "./decide/backoff.ts";

export const steps = [
  "idle",
  "due",
  "key-made",
  "asked",
  "received",
  "checked",
  "staged",
  "announced",
  "switched",
  "reloaded",
  "served",
  "reported",
] as const;
export type Step = (typeof steps)[number];

/** When the service wants a leaf renewed. Milliseconds. */
export interface Window {
  readonly start: number;
  readonly end: number;
  /** When the service said so: a start that was past at that moment means now. */
  readonly learnedAt: number;
  /** False for the window that came with the leaf itself. */
  readonly moved: boolean;
}

/** A leaf whose key is in `state`. */
export interface HeldLeaf {
  /** `sha256:…` over its DER; also names its file. */
  readonly fingerprint: string;
  readonly serial: string;
  readonly identity: string;
  readonly lineage: string;
  readonly generation: number;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly receivedAt: number;
  readonly window: Window;
}

export interface OpenRequest {
  readonly kind: "renewal" | "enrollment";
  /** SPKI fingerprint of the key that asks: the same request is repeated with it until there is an answer. */
  readonly key: string;
  readonly begunAt: number;
  /** Id under which the request waits for an operator. */
  readonly pendingId: string | null;
}

/** A set that is being staged: the same contents find the same version again. */
export interface Staging {
  readonly contents: string;
  readonly stagedAt: number;
}

/** What the proxy was last told to load. */
export interface Told {
  readonly version: string;
  readonly fingerprint: string;
  readonly bundleVersion: number;
  /** Digest of what the CRLs revoke. */
  readonly revoked: string;
  readonly crlNumbers: Readonly<Record<string, number>>;
  /** Half of the life of the CRL that ends first: from then on fresher ones are worth a reload. */
  readonly refreshAt: number;
  /** When the CRL that ends first ends; unknown in journals of older versions. */
  readonly crlsUntil?: number;
  /** Digest of the templates and the passphrase the files were made with. */
  readonly recipe?: string;
}

export interface Served {
  readonly version: string;
  readonly fingerprint: string;
  readonly notAfter: number;
  readonly at: number;
  /** Of the leaf: it may be revoked after the agent has let go of it. Unknown in journals of older versions. */
  readonly serial?: string;
  /** What the proxy had been told then; unknown in journals of older versions. */
  readonly told?: Told;
}

export interface NotServed {
  readonly version: string;
  readonly since: number;
  readonly detail: string;
  /** The row of the roll-back table; none when it was noticed while nothing had changed. */
  readonly row?: string;
}

/** What was taken back. It is not tried again before `retries.quarantine` allows it; whatever differs from it is. */
export interface Quarantine {
  /** The last version that was taken back. */
  readonly version: string;
  /** The row of the roll-back table. */
  readonly row: string;
  readonly since: number;
  readonly detail: string;
  /** `contents` of the set; null when what was installed was no set that is known. */
  readonly contents: string | null;
  /** Fingerprint of the leaf to blame. */
  readonly leaf: string | null;
  /** The trust bundle and CRLs to blame, as `clientsOf` names them. */
  readonly clients: string | null;
}

/** The command of `beforeSwitch` has succeeded. */
export interface Announced {
  readonly fingerprint: string;
  readonly at: number;
}

/** Why one kind of work does not get on. */
export interface Failure {
  readonly step: Step;
  /** What, why, and what to do. */
  readonly message: string;
  /** Problem code when the service refused, else a word for what failed (`unreachable`, `preflight-chain` …). */
  readonly code: string;
  readonly at: number;
}

/** Null since the last success. */
export interface Attempts extends Retry {
  readonly error: Failure | null;
}

export const retryKinds = ["ask", "announce", "install", "quarantine", "serve", "report", "trust", "window"] as const;
export type RetryKind = (typeof retryKinds)[number];

export interface Journal {
  readonly format: 1;
  readonly step: Step;
  /** The leaf the agent speaks with. */
  readonly current: HeldLeaf | null;
  /** Received, and not yet known to be in force. */
  readonly next: HeldLeaf | null;
  /** `next` has spoken, or was about to: there is no way back to speaking with `current`. */
  readonly nextUsed: boolean;
  /** What the service last said of the leaf in `current`. */
  readonly window: Window | null;
  readonly request: OpenRequest | null;
  readonly staging: Staging | null;
  /** What was served before the last switch; null when that was not a healthy proxy with the old leaf. */
  readonly healthyBefore: string | null;
  readonly told: Told | null;
  /** The last set that was seen served. */
  readonly served: Served | null;
  readonly notServed: NotServed | null;
  /** A quarantined version that there was no way back from. */
  readonly stuck: string | null;
  readonly quarantine: Quarantine | null;
  /** The leaf that clients were last told of before a switch. */
  readonly announced: Announced | null;
  /** The reload refused the last good set too: what it says of a set means nothing, until it succeeds. */
  readonly reloadSuspect: boolean;
  readonly retries: Readonly<Record<RetryKind, Attempts>>;
  /** SHA-256 of the token that began this lineage. */
  readonly token: string | null;
}

export const fresh: Attempts = Object.freeze({ ...noFailures, error: null });

/** Of a certificate for which nothing has begun. */
export const blankJournal: Journal = {
  format: 1,
  step: "idle",
  current: null,
  next: null,
  nextUsed: false,
  window: null,
  request: null,
  staging: null,
  healthyBefore: null,
  told: null,
  served: null,
  notServed: null,
  stuck: null,
  quarantine: null,
  announced: null,
  reloadSuspect: false,
  retries: {
    ask: fresh,
    announce: fresh,
    install: fresh,
    quarantine: fresh,
    serve: fresh,
    report: fresh,
    trust: fresh,
    window: fresh,
  },
  token: null,
};

export interface JournalFile {
  readonly state: Journal;
  /** Replaces the named fields; durable when it returns. Nothing is written when nothing would change. */
  update(change: Partial<Omit<Journal, "format">>): Promise<void>;
}

const fileName = "journal.json";

/** The journal of a directory, which is made (0700) when it is not there. @throws Error when it cannot be read or is not one */
export async function openJournal(directory: string): Promise<JournalFile> {
  await makeDirectory(directory, 0o700);
  let state = await readJournal(directory);
  let written = JSON.stringify(state);
  return {
    get state() {
      return state;
    },
    async update(change) {
      const next = { ...state, ...change };
      const text = JSON.stringify(next);
      if (text === written) return;
      await writeFileDurably(join(directory, fileName), text, { mode: 0o600 });
      state = next;
      written = text;
    },
  };
}

/** What a journal says now, for who only looks; a blank one when there is none. @throws Error when it is not a journal */
export async function readJournal(directory: string): Promise<Journal> {
  const path = join(directory, fileName);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return blankJournal;
    throw error;
  }
  try {
    return parseJournal(text);
  } catch (cause) {
    const advice = "Restore it, or move the directory aside and enroll again";
    throw new Error(`${path} is not a journal of this agent (${(cause as Error).message}). ${advice}`, { cause });
  }
}

/** Every field that this version knows, each of the kind it should be; a newer format is refused rather than guessed at. */
export function parseJournal(text: string): Journal {
  const value = JSON.parse(text) as unknown;
  if (typeof value !== "object" || value === null) throw new Error("it is not an object");
  const fields = value as Record<string, unknown>;
  if (fields["format"] !== 1) throw new Error(`format ${String(fields["format"])} is not known`);
  if (!steps.some((step) => step === fields["step"])) throw new Error("it has no step");
  const merged: Record<string, unknown> = { ...blankJournal };
  for (const key of Object.keys(blankJournal)) {
    const read = fields[key];
    if (read === undefined) continue;
    const nullable = blankJournal[key as keyof Journal] === null;
    if (
      nullable
        ? typeof read !== "object" && key !== "token" && key !== "stuck" && key !== "healthyBefore"
        : typeof read !== typeof merged[key]
    ) {
      throw new Error(`its "${key}" is not what it should be`);
    }
    merged[key] = read;
  }
  const journal = merged as unknown as Journal;
  for (const leaf of [journal.current, journal.next]) {
    if (leaf !== null && !(typeof leaf.fingerprint === "string" && Number.isFinite(leaf.notAfter)))
      throw new Error("a leaf of it is damaged");
  }
  return { ...journal, retries: { ...blankJournal.retries, ...journal.retries } };
}
