/**
 * Who is served next when more ask than can be served: whoever has the least time left. Earliest deadline first loses nobody that
 * any order could have saved, whether a leaf lives for an hour or for a month; its own length of life counts in that a leaf whose
 * renewal window has not begun comes after all those whose has. Bounded: when it is full the least urgent goes, new or waiting,
 * and is told when to come back.
 *
 * The order is worth something only among those who are known. So in a crowd, while others wait to be let in and say who they are, one
 * begins for every two that come: getting to know them runs ahead of serving them, and the urgent are found early.
 *
 * Pure: times are milliseconds of a clock that only rises, chance is a parameter.
 */
import { drainMeter, type DrainMeter } from "./drain-meter.ts";
import { expectedReturns } from "./expected-returns.ts";

export interface Applicant {
  /** The leaf it presented, by serial. */
  readonly who: string;
  /** Milliseconds until that leaf expires. */
  readonly left: number;
  /** Its renewal window has begun. */
  readonly due: boolean;
}

/** `full`: others were more urgent. `too-long`: it waited without its turn coming. */
export type TurnedAwayBecause = "full" | "too-long";

export interface Dismissal<Ticket> {
  readonly ticket: Ticket;
  readonly because: TurnedAwayBecause;
  readonly retryAfterSeconds: number;
}

export interface Entered<Ticket> {
  /** Those whose turn has come; whoever is in neither waits. */
  readonly begins: readonly Ticket[];
  readonly dismissed: Dismissal<Ticket> | null;
}

export interface AdmissionLimits {
  /** In work at once. */
  readonly maxInWork: number;
  readonly maxWaiting: number;
  /** Nobody waits longer than this, milliseconds: shorter than clients wait for an answer. */
  readonly maxWait: number;
}

export interface AdmissionQueue<Ticket extends Applicant> {
  enter(ticket: Ticket, now: number): Entered<Ticket>;
  /** One that was in work is done. Answers whose turn has come. */
  finish(now: number): readonly Ticket[];
  /** Whose turn has come because a crowd is over. */
  proceed(now: number): readonly Ticket[];
  /** Its client has gone. True when it was waiting. */
  leave(ticket: Ticket, now: number): boolean;
  /** Those who waited too long. */
  overdue(now: number): readonly Dismissal<Ticket>[];
  waiting(): number;
  inWork(): number;
  /** As measured while somebody waited, a second. */
  drainRate(now: number): number;
}

/** In a crowd: what each that comes adds to what may begin. */
const beginsForEach = 0.5;
/** One leaf has use for two: a connection that was lost, and the one that follows it. More of its requests come after everybody else's. */
const maxUrgentOfOne = 2;
/** Of those who could be served within `maxWait` at the rate measured: more urgent ones come meanwhile. */
const hopefulShare = 0.7;
/** However long the line is, it is worth asking again after this. */
const longestPauseMs = 3_600_000;
/** Those who were sent away together do not come back together. */
const jitterShare = 0.2;
const jitterMs = 2_000;

interface Waiting<Ticket> {
  readonly ticket: Ticket;
  readonly due: boolean;
  readonly deadline: number;
  readonly since: number;
}

/** `random` is uniform in [0, 1). `isCrowded`: others wait to be let in. */
export function admissionQueue<Ticket extends Applicant>(
  limits: AdmissionLimits,
  random: () => number,
  isCrowded: () => boolean = () => false,
): AdmissionQueue<Ticket> {
  const meter = drainMeter();
  const line = waitingLine<Ticket>(meter);
  const expected = expectedReturns();
  let inWork = 0;
  let mayBegin = 0;

  const proceed = (now: number): Ticket[] => {
    const begins: Ticket[] = [];
    const crowded = isCrowded();
    while (inWork < limits.maxInWork && (!crowded || mayBegin >= 1)) {
      const next = line.take(0, now);
      if (next === null) break;
      inWork += 1;
      mayBegin = crowded ? mayBegin - 1 : 0;
      begins.push(next);
    }
    return begins;
  };

  /** Whoever would wait in vain is told at once. */
  const room = (now: number): number => {
    const servedInTime = ((meter.rate(now) * limits.maxWait) / 1000) * hopefulShare;
    return Math.min(limits.maxWaiting, Math.max(limits.maxInWork, Math.floor(servedInTime)));
  };

  const dismiss = (ticket: Ticket, because: TurnedAwayBecause, now: number): Dismissal<Ticket> => {
    const ahead = inWork + line.aheadOf(ticket, now) + expected.aheadOf(ticket, now);
    const wait = (ahead / meter.rate(now)) * 1000;
    const spread = wait * (1 + random() * jitterShare) + random() * jitterMs;
    // Half of what it has left, at most: a wrong guess must leave time to ask again.
    const pause = Math.min(longestPauseMs, spread, Math.max(0, ticket.left) / 2);
    const retryAfterSeconds = Math.max(1, pause < spread ? Math.floor(pause / 1000) : Math.ceil(pause / 1000));
    expected.add(ticket, now + retryAfterSeconds * 1000);
    return { ticket, because, retryAfterSeconds };
  };

  return {
    enter(ticket, now) {
      expected.drop(ticket);
      mayBegin = Math.min(limits.maxInWork, mayBegin + beginsForEach);
      line.insert(ticket, now);
      const begins = proceed(now);
      const least = line.size() <= room(now) ? null : line.take(line.size() - 1, now);
      return { begins, dismissed: least === null ? null : dismiss(least, "full", now) };
    },
    finish(now) {
      meter.finished(now);
      inWork -= 1;
      return proceed(now);
    },
    proceed,
    leave: (ticket, now) => line.take(line.indexOf(ticket), now) !== null,
    overdue(now) {
      const late = line.since(now - limits.maxWait);
      for (const ticket of late) line.take(line.indexOf(ticket), now);
      return late.map((ticket) => dismiss(ticket, "too-long", now));
    },
    waiting: line.size,
    inWork: () => inWork,
    drainRate: (now) => meter.rate(now),
  };
}

/** Those who wait, the most urgent first. Sorted by insertion: it is short, and both ends are taken from. */
function waitingLine<Ticket extends Applicant>(meter: DrainMeter) {
  const line: Waiting<Ticket>[] = [];
  const ofOne = new Map<string, number>();
  return {
    size: (): number => line.length,
    indexOf: (ticket: Ticket): number => line.findIndex((entry) => entry.ticket === ticket),
    since: (then: number): Ticket[] => line.filter(({ since }) => since <= then).map(({ ticket }) => ticket),
    aheadOf: (ticket: Applicant, now: number): number => positionOf(line, ticket, now),
    insert(ticket: Ticket, now: number): void {
      if (line.length === 0) meter.busy(now);
      const { who, left } = ticket;
      const others = ofOne.get(who) ?? 0;
      const due = ticket.due && others < maxUrgentOfOne;
      line.splice(positionOf(line, { who, left, due }, now), 0, { ticket, due, deadline: now + left, since: now });
      ofOne.set(who, others + 1);
    },
    /** Null when there is nobody at this index. */
    take(index: number, now: number): Ticket | null {
      const [entry] = index < 0 ? [] : line.splice(index, 1);
      if (entry === undefined) return null;
      const { who } = entry.ticket;
      const others = (ofOne.get(who) ?? 1) - 1;
      if (others === 0) ofOne.delete(who);
      else ofOne.set(who, others);
      if (line.length === 0) meter.idle(now);
      return entry.ticket;
    },
  };
}

/** How many of the line come before it; of equals, those who came first. */
function positionOf(line: readonly Waiting<Applicant>[], { due, left }: Applicant, now: number): number {
  const deadline = now + left;
  let low = 0;
  let high = line.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = line[middle];
    if (other === undefined) break;
    const comesAfter = other.due === due ? other.deadline > deadline : due;
    if (comesAfter) high = middle;
    else low = middle + 1;
  }
  return low;
}
