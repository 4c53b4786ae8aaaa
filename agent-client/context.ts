/** What the work for one certificate stands on, and the few things all of that work does. */
import type { ServedReport } from "@newleaf/shared/api";
import type { Clock } from "@newleaf/shared/clock";
import { NetworkError } from "@newleaf/shared/http-client";
import { AppError, problems } from "@newleaf/shared/problems";
import { retryAt } from "./decide/backoff.ts";
import { BundleError, EarlyCrlError } from "./trust/bundle.ts";
import type { CanaryVerdict } from "./probe/canary.ts";
import type { CertificateConfig } from "./config/config.ts";
import type { Credential, CredentialStore } from "./credentials.ts";
import type { Desired } from "./decide/choice.ts";
import { PreflightError } from "./install/preflight.ts";
import { deadlineOf, newestLeaf, speakingLeaf } from "./decide/leaves.ts";
import { type Attempts, fresh, type Journal, type JournalFile, type RetryKind, type Step } from "./journal.ts";
import type { Log } from "./log.ts";
import type { Outcome } from "./metrics.ts";
import type { Desk } from "./reload/desk.ts";
import type { ServiceClient } from "./service-client.ts";
import type { TrustStore } from "./trust/trust-store.ts";
import { isLate } from "./decide/urgency.ts";
import type { Wake } from "./wake.ts";

export interface AgentContext {
  readonly config: CertificateConfig;
  readonly journal: JournalFile;
  readonly credentials: CredentialStore;
  readonly trust: TrustStore;
  readonly client: ServiceClient;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
  readonly count: (outcome: Outcome) => void;
  /** Tells the proxy, together with the other certificates of the same one. */
  readonly reload: Desk;
  /** Regular files in the way of `links` are moved aside. */
  readonly adopt: boolean;
  /** Called after each arrow is written and after it is taken; tests stop the process there. */
  readonly checkpoint: (name: string) => void;
  readonly view: View;
  /** Ends the loop's sleep. */
  readonly wake: Wake;
}

/** What is known in memory only: losing it costs one more question. */
export interface View {
  lookedAt: number | null;
  windowCheckedAt: number | null;
  feedAlive: boolean;
  /** The last handshakes made, one for each probe. */
  sightings: readonly ServedReport[];
  /** What the canaries last came to, one for each probe that has them; and when. */
  canaries: readonly CanaryVerdict[];
  canariesAt: number | null;
  /** Since this process began. */
  readonly attempts: Partial<Record<Outcome, number>>;
  reportedAt: number | null;
  reportedDigest: string | null;
  forced: boolean;
  /** A window that the change feed brought, and for which leaf. */
  windowHint: { readonly fingerprint: string; readonly start: number; readonly end: number } | null;
  /** Sets by what they were made from. */
  readonly sets: Map<string, Desired>;
}

export function newView(): View {
  return {
    lookedAt: null,
    windowCheckedAt: null,
    feedAlive: false,
    sightings: [],
    canaries: [],
    canariesAt: null,
    attempts: {},
    reportedAt: null,
    reportedDigest: null,
    forced: false,
    windowHint: null,
    sets: new Map(),
  };
}

/** Writes that an arrow is about to be taken, with what must be known if it is never heard of again. */
export async function arrow(
  context: AgentContext,
  step: Step,
  change: Partial<Omit<Journal, "format" | "step">> = {},
): Promise<void> {
  await context.journal.update({ ...change, step });
  context.checkpoint(step);
}

/** The credential to speak with; null when there is none in date. */
export async function speakerOf(context: AgentContext): Promise<Credential | null> {
  const leaf = speakingLeaf(context.journal.state, context.clock.now());
  return leaf === null ? null : context.credentials.readLeaf(leaf.fingerprint);
}

/** Clears what held this kind of work back; together with a change, in one write. */
export function succeeded(context: AgentContext, ...kinds: readonly RetryKind[]): Pick<Journal, "retries"> {
  const retries = { ...context.journal.state.retries };
  for (const kind of kinds) retries[kind] = fresh;
  return { retries };
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

/** First and longest pause by kind of work. A reload costs the proxy workers; asking costs nobody anything. */
const pauses: Readonly<Record<RetryKind, { readonly base: number; readonly cap: number }>> = {
  ask: { base: 30 * second, cap: hour },
  announce: { base: 10 * second, cap: 5 * minute },
  install: { base: minute, cap: hour },
  quarantine: { base: minute, cap: hour },
  serve: { base: 5 * second, cap: 5 * minute },
  report: { base: 5 * second, cap: 15 * minute },
  trust: { base: 5 * second, cap: 10 * minute },
  window: { base: 30 * second, cap: hour },
};
/** When an operator has to act first: slow, but never silent and never over. */
const hopelessPause = { base: hour, cap: hour };
/** An operator who has decided should not have to wait for long. */
const waitingPause = { base: 5 * second, cap: minute };
/** A set that broke the proxy is tried again, because its fault may have been elsewhere, but not often. */
const brokenPause = { base: 10 * minute, cap: 6 * hour };

export interface Trouble {
  readonly step: Step;
  readonly error: unknown;
  readonly outcome: Outcome;
  /** The proxy was harmed by trying. */
  readonly broke?: boolean;
}

/** The change to the journal that notes a failure and when to try again; logs it. */
export function failed(context: AgentContext, kind: RetryKind, trouble: Trouble): Pick<Journal, "retries"> {
  const { journal, clock, log } = context;
  const now = clock.now();
  const { code, message, retryAfterSeconds } = explain(trouble.error);
  const hopeless = trouble.error instanceof AppError && problems[trouble.error.code].retry === "never";
  const waiting = trouble.error instanceof WaitingError;
  const { base, cap } = hopeless
    ? hopelessPause
    : waiting
      ? waitingPause
      : trouble.broke === true
        ? brokenPause
        : pauses[kind];
  const failures = journal.state.retries[kind].failures + 1;
  const notBefore = retryAt({
    now,
    failures,
    baseMs: base,
    capMs: cap,
    retryAfterSeconds,
    deadline: deadlineOf(journal.state, now),
    random: context.random(),
  });
  const attempts: Attempts = { failures, notBefore, error: { step: trouble.step, message, code, at: now } };
  const retry = new Date(notBefore).toISOString();
  const fields = { work: kind, step: trouble.step, code, failures, retry, why: message };
  const { crls } = context.trust.trust;
  if (hopeless || isLate(kind, { now, leaf: newestLeaf(journal.state), crls: crls.values() }))
    log.error("failed", fields);
  else log.warn("failed", fields);
  context.count(trouble.outcome);
  return { retries: { ...journal.state.retries, [kind]: attempts } };
}

/** A failure as status, log and report show it. */
export function explain(error: unknown): { code: string; message: string; retryAfterSeconds?: number | undefined } {
  if (error instanceof AppError) {
    return { code: error.code, message: error.message, retryAfterSeconds: error.retryAfterSeconds };
  }
  if (error instanceof NetworkError) {
    return { code: error.fault, message: error.message, retryAfterSeconds: error.retryAfterSeconds };
  }
  if (error instanceof PreflightError) return { code: `preflight-${error.check}`, message: error.message };
  if (error instanceof EarlyCrlError) return { code: "crl-early", message: error.message };
  if (error instanceof BundleError) return { code: "bundle-refused", message: error.message };
  if (error instanceof WaitingError) {
    return { code: "waiting", message: error.message, retryAfterSeconds: error.retryAfterSeconds };
  }
  if (error instanceof WorkError) return { code: error.code, message: error.message };
  if (error instanceof Error)
    return { code: error.name === "InstallError" ? "install" : "local", message: error.message };
  return { code: "local", message: String(error) };
}

/** A failure that has no class of its own: what failed, in a sentence, and the word under which there is advice. */
export class WorkError extends Error {
  override readonly name = "WorkError";
  readonly code: string;

  constructor(message: string, code = "local") {
    super(message);
    this.code = code;
  }
}

/** Nothing is wrong, but a human has to decide. */
export class WaitingError extends Error {
  override readonly name = "WaitingError";
  readonly retryAfterSeconds: number;

  constructor(message: string, wait: { readonly retryAfterSeconds: number }) {
    super(message);
    this.retryAfterSeconds = wait.retryAfterSeconds;
  }
}
