/**
 * Hopeless clients: what was refused fifty times within a day with an answer that will not change by asking again is answered at once,
 * until an operator lifts it, what it was refused for changes, or a day has passed.
 *
 * What is paused is never an identity but a credential: a leaf that the gate refuses, a leaf's renewals, or one request, word for word.
 * Another leaf, another key, another request of the same host is looked at as if nothing had been: so a client that would succeed is
 * never paused, and whoever stole a leaf cannot pause its rightful holder, who by then holds another.
 */
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import type { PresentedLeaf } from "../../store/certificates.ts";
import type { PauseRow } from "../../store/pauses.ts";
import type { Page, PageRequest } from "../../store/store.ts";
import { TurnedAway } from "./admission.ts";
import { auditEntry, type Authority, type Caller } from "../authority.ts";
import { pauseLife } from "./pause-desk.ts";
import { requireTouch } from "../permissions.ts";

/** A client that asks again within minutes gets here within the hour; one that backs off as ours never does. */
export const refusalsUntilPaused = 50;
const askAgainMs = 3_600_000;

/** No request with this leaf can succeed. */
const hopelessLeaf: ReadonlySet<ProblemCode> = new Set([
  "certificate-revoked",
  "certificate-expired",
  "enrollment-denied",
  "identity-unknown",
  "lineage-locked",
]);
/** Nor any but a renewal with a key that tells a lost answer or a second holder: the gate may pause it, and lets that one pass. */
const hopelessAtGate: ReadonlySet<ProblemCode> = new Set([...hopelessLeaf, "certificate-superseded"]);
/** This request cannot succeed. Only codes that come after the proof that the caller has the request's key. */
const hopelessRequest: ReadonlySet<ProblemCode> = new Set([
  "names-not-permitted",
  "key-blocked",
  "key-in-use",
  "key-reused",
  "token-invalid",
]);

/** Something that may be paused. */
export interface Attempt {
  readonly identity: string;
  readonly serial: string | null;
  readonly key: string | null;
  /** Milliseconds of life of the presented leaf; null without one. */
  readonly left: number | null;
  /** What refusals rely on, besides the request itself. */
  readonly basis: string;
  /** Paused when all that it can ask for is refused; null when there is no such thing. */
  readonly holder: string | null;
  /** Paused when exactly this request is refused; null when the request cannot be read. */
  readonly request: string | null;
}

/**
 * Does the work unless this very thing is paused; counts its refusals, and pauses it when there were too many.
 * @throws TurnedAway (rate-limited), and what the work throws
 */
export async function unlessPaused<T>(
  authority: Authority,
  caller: Caller,
  attempt: Attempt,
  work: () => Promise<T>,
): Promise<T> {
  for (const subject of [attempt.holder, attempt.request]) {
    if (subject === null) continue;
    const pause = authority.herd.pauses.knock(subject, attempt.basis, caller.address);
    if (pause !== null) throw pausedAnswer(authority, pause, attempt.left);
  }
  try {
    return await work();
  } catch (error) {
    const subject = error instanceof AppError ? subjectOf(attempt, error.code) : null;
    if (error instanceof AppError && subject !== null)
      await noteRefusal(authority, caller, attempt, { subject, refusal: error });
    throw error;
  }
}

/**
 * A leaf that the gate refuses: what the caller is told, which is the refusal itself until there were too many. The gate's judgement
 * comes first and costs nothing, so a pause needs no basis here: it says nothing as soon as the gate lets the leaf pass.
 */
export async function answerOfGate(
  authority: Authority,
  caller: Caller,
  leaf: PresentedLeaf,
  refusal: AppError,
): Promise<AppError> {
  if (!hopelessAtGate.has(refusal.code) || leaf.profile === "operator") return refusal;
  const subject = `gate ${leaf.serial} ${refusal.code}`;
  const left = leaf.notAfter - authority.clock.now();
  const pause = authority.herd.pauses.knock(subject, "", caller.address);
  if (pause !== null) return pausedAnswer(authority, pause, left);
  const { identity, serial } = leaf;
  const attempt = { identity, serial, key: null, left, basis: "", holder: subject, request: null };
  await noteRefusal(authority, caller, attempt, { subject, refusal });
  return refusal;
}

interface Refused {
  readonly subject: string;
  readonly refusal: AppError;
}

async function noteRefusal(
  authority: Authority,
  caller: Caller,
  attempt: Attempt,
  { subject, refusal }: Refused,
): Promise<void> {
  const { pauses } = authority.herd;
  const refusals = pauses.refused(subject, attempt.basis);
  if (refusals % refusalsUntilPaused !== 0 || !pauses.hasRoom()) return;
  const at = authority.clock.now();
  const { identity, serial, key, basis } = attempt;
  const pause: PauseRow = {
    subject,
    identity,
    serial,
    key,
    basis,
    refusals,
    code: refusal.code,
    reason: refusal.message,
    since: at,
    until: at + pauseLife,
    address: caller.address,
  };
  const detail = { code: refusal.code, reason: refusal.message, refusals, ...(serial === null ? { key } : { serial }) };
  try {
    await authority.store.recordPause(pause, [auditEntry(caller, at, "client.paused", identity, detail)]);
  } catch (fault) {
    // The caller gets his refusal all the same; the next fifty make it try again.
    authority.events.faulted(fault, "record of a pause", caller.requestId);
    return;
  }
  pauses.add(pause);
  authority.events.paused(pause);
}

function subjectOf({ holder, request }: Attempt, code: ProblemCode): string | null {
  if (hopelessLeaf.has(code)) return holder ?? request;
  return hopelessRequest.has(code) ? request : null;
}

function pausedAnswer({ clock }: Authority, pause: PauseRow, left: number | null): TurnedAway {
  const pauseMs = Math.min(askAgainMs, pause.until - clock.now(), left !== null && left > 0 ? left / 2 : askAgainMs);
  const since = new Date(pause.since).toISOString();
  return new TurnedAway(
    "paused",
    `Paused since ${since}, after ${refusalsUntilPaused} refusals: ${pause.code}: ${pause.reason} Mend that, or an operator lifts it with \`newleaf pauses lift ${pause.identity}\``,
    Math.max(1, Math.floor(pauseMs / 1000)),
  );
}

/** Those that stand, newest first. */
export async function listPauses(
  authority: Authority,
  request: PageRequest & { readonly identity?: string },
): Promise<Page<PauseRow>> {
  const page = await authority.store.listPauses({ ...request, now: authority.clock.now() });
  return { ...page, items: page.items.map((pause) => authority.herd.pauses.current(pause)) };
}

/** All of an identity's. @throws AppError not-found (nothing of it is paused), not-permitted */
export async function liftPauses(authority: Authority, caller: Caller, identity: string): Promise<void> {
  caller.target = identity;
  await requireTouch(authority, caller, identity);
  const at = authority.clock.now();
  const subjects = await authority.store.liftPauses(identity, at, [auditEntry(caller, at, "pauses.lifted", identity)]);
  authority.herd.pauses.drop(subjects);
  authority.events.acted("pauses.lifted", caller, { identity, pauses: subjects.length });
}
