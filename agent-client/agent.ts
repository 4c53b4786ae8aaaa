/** The loop for one certificate: observe → decide → act → record. Nothing but `decide` says what comes next. */
import { type AgentContext, failed, speakerOf, succeeded, WaitingError, WorkError } from "./context.ts";
import { type Action, decide, type Decision, type World } from "./decide/decide.ts";
import { announce, install, look, tell } from "./deploy.ts";
import { type Installed, readInstalled } from "./install/installed.ts";
import { InstallError } from "./install/target.ts";
import { newestLeaf } from "./decide/leaves.ts";
import type { RetryKind } from "./journal.ts";
import type { Outcome } from "./metrics.ts";
import { paceOf } from "./decide/pace.ts";
import { isReportDue, report } from "./report.ts";
import { enroll, renew } from "./request.ts";
import { choiceOf } from "./sets.ts";
import { canGoBack, rollBack } from "./way-back.ts";
import { AppError } from "@newleaf/shared/problems";
import { NetworkError } from "@newleaf/shared/http-client";
import { sleep } from "./wake.ts";

/** No honest sequence is longer; more is a fault of this program, which must not become a fault of the service. */
const maxActionsInARow = 40;
const faultPauseMs = 5000;
const shortestSleepMs = 20;
/** Code of the failure that the directory of the certificate cannot be read. */
const unreadable = "unreadable";

/** Keeps the certificate until the signal aborts. Never throws. */
export async function runAgent(context: AgentContext, signal: AbortSignal): Promise<void> {
  let inARow = 0;
  while (!signal.aborted) {
    const decision = await takeStep(context, signal);
    inARow = decision.action === "wait" ? 0 : inARow + 1;
    if (inARow >= maxActionsInARow) {
      context.log.error("restless", { action: decision.action, reason: decision.reason });
      inARow = 0;
      await sleep(faultPauseMs, signal);
    }
    if (decision.action !== "wait") continue;
    const pace = paceOf(newestLeaf(context.journal.state), context.view.feedAlive);
    const left = decision.at - context.clock.now();
    await context.wake.sleep(Math.max(shortestSleepMs, Math.min(left, pace.tick)), signal);
  }
}

export interface PassResult {
  /** What the last decision was: to wait, for what and until when. */
  readonly decision: Decision;
  /** Something failed on the way. */
  readonly failed: boolean;
  /** A certificate was received. */
  readonly renewed: boolean;
}

/** One pass: everything that is due, and one attempt at everything that had failed. For timers and init containers. */
export async function passOnce(
  context: AgentContext,
  options: { force: boolean },
  signal: AbortSignal,
): Promise<PassResult> {
  const { journal, view, trust } = context;
  const before = newestLeaf(journal.state)?.fingerprint;
  view.forced = options.force;
  view.windowCheckedAt = null;
  view.lookedAt = null;
  trust.checkedAt = null;
  const retries = Object.fromEntries(
    Object.entries(journal.state.retries).map(([kind, attempts]) => [kind, { ...attempts, notBefore: 0 }]),
  ) as Record<RetryKind, (typeof journal.state.retries)[RetryKind]>;
  await journal.update({ retries });
  const startedAt = context.clock.now();
  let decision = await takeStep(context, signal);
  for (let count = 0; decision.action !== "wait" && count < maxActionsInARow && !signal.aborted; count += 1) {
    decision = await takeStep(context, signal);
  }
  const errors = Object.values(journal.state.retries).filter(({ error }) => error !== null && error.at >= startedAt);
  const renewed = newestLeaf(journal.state)?.fingerprint !== before;
  return { decision, failed: errors.length > 0 || journal.state.notServed !== null, renewed };
}

/** One decision, carried out. What goes wrong is noted with a time to try again; nothing is thrown. */
export async function takeStep(context: AgentContext, signal: AbortSignal): Promise<Decision> {
  let decision: Decision = {
    action: "wait",
    reason: "the files on this host cannot be looked at",
    at: context.clock.now() + faultPauseMs,
  };
  try {
    const { world, installed } = await observe(context);
    decision = decide(world);
    if (decision.action === "wait") return decision;
    await act(context, decision, installed, signal);
  } catch (error) {
    if (signal.aborted) return decision;
    try {
      await note(context, decision.action, error);
    } catch (unwritable) {
      // A disk that is full, for example: without a journal nothing more is begun, and nothing is given up.
      const why = `${(error as Error).message}; and the journal cannot be written: ${(unwritable as Error).message}`;
      context.log.error("cannot-record", { why });
      return { action: "wait", reason: why, at: context.clock.now() + faultPauseMs };
    }
  }
  return decision;
}

/** What is: leaves held, files on disk, what was seen served, what the service announced. */
async function observe(context: AgentContext): Promise<{ world: World; installed: Installed | null }> {
  const { config, journal, trust, view } = context;
  await takeWindowHint(context);
  const { installed, isVisible } = await lookAtDisk(context);
  const world: World = {
    ...(await choiceOf(context, installed)),
    // What cannot be looked at is left alone; asking, trust and reports go on.
    ...(isVisible ? {} : { desired: null, fallback: null }),
    journal: journal.state,
    canGoBack: installed !== null && installed.quarantined && canGoBack(context, installed),
    trust: { held: trust.trust.version > 0, outdated: trust.outdated, checkedAt: trust.checkedAt },
    windowCheckedAt: view.windowCheckedAt,
    lookedAt: view.lookedAt,
    feedAlive: view.feedAlive,
    report: { due: await isReportDue(context, installed), at: view.reportedAt },
    probed: config.probes.length > 0,
    forced: view.forced,
  };
  return { world, installed };
}

/** A directory that cannot be read is a failure like any other: it is told to people and to the service, and looked at again. */
async function lookAtDisk(context: AgentContext): Promise<{ installed: Installed | null; isVisible: boolean }> {
  const { config, journal, clock } = context;
  const known = journal.state.retries.install;
  try {
    const installed = await readInstalled(config.target);
    if (known.error?.code === unreadable) await journal.update(succeeded(context, "install"));
    return { installed, isVisible: true };
  } catch (cause) {
    if (!(cause instanceof InstallError)) throw cause;
    if (known.error?.code !== unreadable || known.notBefore <= clock.now()) {
      const error = new WorkError(cause.message, unreadable);
      await journal.update(failed(context, "install", { step: journal.state.step, error, outcome: "failed" }));
    }
    return { installed: null, isVisible: false };
  }
}

async function act(
  context: AgentContext,
  { action, reason }: Decision,
  installed: Installed | null,
  signal: AbortSignal,
): Promise<void> {
  const { journal, trust, log } = context;
  if (action !== "look" && action !== "refresh-window" && action !== "refresh-trust") log.info(action, { reason });
  switch (action) {
    case "renew":
      return renew(context);
    case "enroll":
      return askAgain(context);
    case "refresh-trust":
      await trust.refresh(await trustSpeaker(context));
      return journal.update(succeeded(context, "trust"));
    case "refresh-window":
      return refreshWindow(context);
    case "announce":
      return announce(context, installed, signal);
    case "install":
      return install(context, installed, signal);
    case "promote":
    case "report":
      return report(context, installed, action === "promote");
    case "tell":
    case "look":
    case "roll-back": {
      if (installed === null) return;
      const work = { tell, look, "roll-back": rollBack }[action];
      return work(context, installed, signal);
    }
    case "wait":
      return;
  }
}

/** No leaf in date is held. Nothing here needs a human to try; whether it helps is for an operator to say. */
async function askAgain(context: AgentContext): Promise<void> {
  const { log, journal } = context;
  if (newestLeaf(journal.state) !== null)
    log.error("expired", { advice: "newleaf identity grant-recovery ID, or newleaf approvals list" });
  const outcome = await enroll(context, null);
  if (outcome.kind === "received") return;
  const { pendingId, key } = journal.state.request ?? {};
  const error = new WaitingError(
    `the request ${pendingId} (key ${key}) waits for an operator: newleaf approvals show ${pendingId}`,
    outcome,
  );
  await journal.update(failed(context, "ask", { step: "asked", error, outcome: "pending" }));
}

/** The first use of a new leaf is its report, never a download. */
async function trustSpeaker(context: AgentContext) {
  const { current, next, nextUsed } = context.journal.state;
  return current === null && next !== null && !nextUsed ? null : speakerOf(context);
}

async function refreshWindow(context: AgentContext): Promise<void> {
  const { journal, client, view, clock } = context;
  const speaker = await speakerOf(context);
  if (speaker === null) throw new WorkError("there is no certificate in date to ask with");
  const period = await client.renewalWindow(speaker);
  view.windowCheckedAt = clock.now();
  await learnWindow(context, period);
  await journal.update(succeeded(context, "window"));
}

async function takeWindowHint(context: AgentContext): Promise<void> {
  const { view, journal, clock } = context;
  const hint = view.windowHint;
  if (hint === null) return;
  view.windowHint = null;
  if (hint.fingerprint !== journal.state.current?.fingerprint || journal.state.next !== null) return;
  view.windowCheckedAt = clock.now();
  await learnWindow(context, hint);
}

/** Only a window that differs is news: one that was past when it was news means now, and must not mean that again. */
async function learnWindow(context: AgentContext, { start, end }: { start: number; end: number }): Promise<void> {
  const { journal, clock, log } = context;
  const { current, window } = journal.state;
  if (current === null) return;
  const known = window ?? current.window;
  if (known.start === start && known.end === end) return;
  const isOwn = current.window.start === start && current.window.end === end;
  log.info("window-moved", { start: new Date(start).toISOString(), end: new Date(end).toISOString() });
  await journal.update({ window: isOwn ? null : { start, end, learnedAt: clock.now(), moved: true } });
}

/** Which kind of work's back-off an action that failed belongs to. */
export const kindOf: Readonly<Record<Exclude<Action, "wait">, RetryKind>> = {
  enroll: "ask",
  renew: "ask",
  "refresh-trust": "trust",
  "refresh-window": "window",
  announce: "announce",
  install: "install",
  "roll-back": "serve",
  tell: "serve",
  look: "serve",
  promote: "report",
  report: "report",
};

async function note(context: AgentContext, action: Action, error: unknown): Promise<void> {
  const { journal, log, view } = context;
  // A human's wish is tried once; from then on it is a renewal like any other.
  if (action === "renew") view.forced = false;
  if (action === "wait")
    return log.error("cannot-look", { why: error instanceof Error ? error.message : String(error) });
  const outcome: Outcome =
    error instanceof AppError ? "refused" : error instanceof NetworkError ? "unreachable" : "failed";
  await journal.update(failed(context, kindOf[action], { step: journal.state.step, error, outcome }));
}
