/** The line in front of issuing: how many are in work at once, who is next, and what those are told who have to come again. */
import { AppError } from "@newleaf/shared/problems";
import type { PresentedLeaf } from "../../store/certificates.ts";
import {
  admissionQueue,
  type AdmissionLimits,
  type Applicant,
  type Dismissal,
  type TurnedAwayBecause,
} from "./admission-queue.ts";

/** Why a request was not looked at, as the metric names it. */
export type TurnedAwayReason = TurnedAwayBecause | "gone" | "paused" | "too-many-requests" | "too-many-refusals";

/** Not a decision about the caller, only about the moment: counted, never audited, so that a herd writes nothing. */
export class TurnedAway extends AppError {
  readonly reason: TurnedAwayReason;

  constructor(reason: TurnedAwayReason, message: string, retryAfterSeconds: number) {
    super("rate-limited", message, { retryAfterSeconds });
    this.reason = reason;
  }
}

export interface Admission {
  /**
   * Does the work when its turn comes. `gone`: the client has left; what waits for it leaves the line.
   * @throws TurnedAway (rate-limited), and what the work throws
   */
  inTurn<T>(applicant: Applicant, gone: AbortSignal, work: () => Promise<T>): Promise<T>;
  /** Begins what may begin now that a crowd is over. */
  proceed(): void;
  waiting(): number;
}

/** Enough to share commits, few enough that the event loop stays free for handshakes and for whoever is more urgent. */
export const renewalLimits: AdmissionLimits = { maxInWork: 32, maxWaiting: 1_000, maxWait: 15_000 };
/** Strangers wait in a line of their own: however many they are, they take no renewal's place. */
export const enrollmentLimits: AdmissionLimits = { maxInWork: 8, maxWaiting: 200, maxWait: 15_000 };

const sweepEveryMs = 1_000;

const messages: Readonly<Record<TurnedAwayBecause, string>> = {
  full: "More urgent requests fill the line; come back when Retry-After says",
  "too-long": "More urgent requests came before this one's turn; come back when Retry-After says",
};

interface Ticket extends Applicant {
  readonly begin: () => void;
  readonly dismiss: (dismissal: Dismissal<Ticket>) => void;
}

/** `isCrowded`: others wait to be let in. `now`: milliseconds of a clock that only rises. */
export function createAdmission(
  limits: AdmissionLimits,
  isCrowded: () => boolean = () => false,
  now: () => number = () => performance.now(),
): Admission {
  const queue = admissionQueue<Ticket>(limits, Math.random, isCrowded);
  let sweeper: NodeJS.Timeout | null = null;
  const sweep = (): void => {
    for (const late of queue.overdue(now())) late.ticket.dismiss(late);
    if (queue.waiting() > 0 || sweeper === null) return;
    clearInterval(sweeper);
    sweeper = null;
  };

  const turn = (applicant: Applicant, gone: AbortSignal): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => {
      if (queue.leave(ticket, now())) reject(new TurnedAway("gone", "The client has gone", 1));
    };
    const ticket: Ticket = {
      ...applicant,
      begin: () => {
        gone.removeEventListener("abort", leave);
        resolve();
      },
      dismiss: ({ because, retryAfterSeconds }) => {
        gone.removeEventListener("abort", leave);
        reject(new TurnedAway(because, messages[because], retryAfterSeconds));
      },
    };
    const { begins, dismissed } = queue.enter(ticket, now());
    gone.addEventListener("abort", leave);
    for (const next of begins) next.begin();
    dismissed?.ticket.dismiss(dismissed);
    if (queue.waiting() > 0) sweeper ??= setInterval(sweep, sweepEveryMs).unref();
    return promise;
  };

  return {
    async inTurn(applicant, gone, work) {
      if (gone.aborted) throw new TurnedAway("gone", "The client has gone", 1);
      await turn(applicant, gone);
      try {
        return await work();
      } finally {
        for (const next of queue.finish(now())) next.begin();
      }
    },
    proceed() {
      for (const next of queue.proceed(now())) next.begin();
    },
    waiting: () => queue.waiting(),
  };
}

/**
 * How urgent a renewal is. A superseded leaf saves nobody: what hangs on its lineage is its successor. So its date does not count, and
 * whoever holds a stale copy of a leaf cannot push to the front with it.
 */
export function urgencyOf(leaf: PresentedLeaf, issuerIsActive: boolean, now: number): Applicant {
  const usable = leaf.state === "current" || leaf.state === "pending";
  return {
    who: leaf.serial,
    left: Math.max(0, leaf.notAfter - now),
    due: usable && (now >= leaf.renewalStart || !issuerIsActive),
  };
}

/** An enrollment: first come, first served. */
export function enrollmentTurn(requestId: string): Applicant {
  return { who: requestId, left: 86_400_000, due: true };
}
