/**
 * Who was sent away and will come back, so that the next one is not told to come at the same time: a line that is held in the
 * heads of those who wait, instead of in this process. Counted by classes of urgency. Bounded; whoever does not come is forgotten. Pure.
 */
import type { Applicant } from "./admission-queue.ts";

export interface ExpectedReturns {
  /** It was told to come back at `at`. */
  add(applicant: Applicant, at: number): void;
  /** It is here. */
  drop(applicant: Pick<Applicant, "who">): void;
  /** How many are expected that come before this one: the more urgent, and its equals who were sent away earlier. */
  aheadOf(applicant: Applicant, now: number): number;
}

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
/** Upper ends of the classes, by time left. After them: the rest, and those whose window has not begun. */
const classEnds = [15 * minute, hour, 4 * hour, day, 3 * day, 7 * day, 14 * day];
const notDue = classEnds.length + 1;

/** About 100 bytes each. */
const maxRemembered = 200_000;
/** Nobody is so late who still means to come. */
const graceMs = 90_000;
const sweepEveryMs = 5_000;

interface Expected {
  readonly class: number;
  readonly until: number;
}

export function expectedReturns(): ExpectedReturns {
  const expected = new Map<string, Expected>();
  const counts = Array.from({ length: notDue + 1 }, () => 0);
  let sweptAt = Number.NEGATIVE_INFINITY;

  const remove = (who: string): void => {
    const entry = expected.get(who);
    if (entry === undefined) return;
    expected.delete(who);
    counts[entry.class] = (counts[entry.class] ?? 1) - 1;
  };
  const sweep = (now: number): void => {
    if (now - sweptAt < sweepEveryMs) return;
    sweptAt = now;
    for (const [who, { until }] of expected) if (until < now) remove(who);
  };
  return {
    add(applicant, at) {
      remove(applicant.who);
      if (expected.size >= maxRemembered) return;
      const entry = { class: classOf(applicant), until: at + graceMs };
      expected.set(applicant.who, entry);
      counts[entry.class] = (counts[entry.class] ?? 0) + 1;
    },
    drop: ({ who }) => remove(who),
    aheadOf(applicant, now) {
      sweep(now);
      return counts.slice(0, classOf(applicant) + 1).reduce((sum, count) => sum + count, 0);
    },
  };
}

function classOf({ due, left }: Applicant): number {
  if (!due) return notDue;
  const index = classEnds.findIndex((end) => left < end);
  return index < 0 ? classEnds.length : index;
}
