/** Retention: what expired long ago is forgotten, a slice at a time, so that issuing never waits long. Audit rows are never among it. */
import { setTimeout } from "node:timers/promises";
import type { ExpiryPosition, RetentionCounts, RetentionStep } from "../../store/retention.ts";
import { auditEntry, systemCaller, type Authority } from "../authority.ts";
import { isoTime } from "../issue.ts";

export interface Retention {
  /** Goes on with the run that is under way, or begins one when a day has passed since the last; for about a second. */
  run(): Promise<void>;
}

const day = 86_400_000;
/** Certificates looked at in one commit: a few milliseconds. */
const slice = 100;
/** Between commits, for everybody else's. */
const pauseMs = 10;
const turnMs = 1_000;
/** A clock further off than this from the one the process counts has stepped. */
const step = 3_600_000;

/** `elapsed`: milliseconds on a clock that nobody sets. */
export function createRetention(authority: Authority, elapsed: () => number = () => performance.now()): Retention {
  let under: RetentionRun | null = null;
  const clockHolds = steadyFor(authority, elapsed);
  return {
    async run() {
      const { expired } = authority.config.retention;
      if (expired === null) return;
      if (under === null) {
        const { endedAt } = await authority.store.retentionState();
        const now = authority.clock.now();
        const isDue = endedAt === null || now - endedAt >= day;
        if (!clockHolds(endedAt) || !isDue) return;
        under = beginRun(authority, now - expired);
      }
      const until = elapsed() + turnMs;
      while (elapsed() < until) {
        if (await under.next()) continue;
        under = null;
        return;
      }
    },
  };
}

/**
 * What is forgotten does not come back: a clock that jumped ahead must not make everything expired long ago. Right after the last run
 * the clock is believed; else (a jump, or the service was down) it must have run evenly for a day first.
 */
function steadyFor({ clock }: Authority, elapsed: () => number): (endedAt: number | null) => boolean {
  let since = { wall: clock.now(), elapsed: elapsed() };
  return (endedAt) => {
    const now = clock.now();
    const counted = elapsed() - since.elapsed;
    if (Math.abs(now - since.wall - counted) > step) {
      since = { wall: now, elapsed: elapsed() };
      return false;
    }
    if (counted >= day) return true;
    return endedAt !== null && endedAt <= now && now - endedAt < 2 * day;
  };
}

/** Removes everything that may go now, at once. Resolves to the counts. @param before milliseconds: what ended earlier may go */
export async function forgetExpired(authority: Authority, before: number): Promise<RetentionCounts> {
  const run = beginRun(authority, before);
  while (await run.next());
  return run.counts();
}

interface RetentionRun {
  /** One slice. False when the run is done, and audited. */
  next(): Promise<boolean>;
  counts(): RetentionCounts;
}

function beginRun(authority: Authority, before: number): RetentionRun {
  const { store, clock, events } = authority;
  let after: ExpiryPosition | null = null;
  let isFirst = true;
  let counts: RetentionCounts = { certificates: 0, lineages: 0, keys: 0, tokens: 0, requests: 0, grants: 0 };
  return {
    counts: () => counts,
    async next() {
      if (isFirst || after !== null) {
        isFirst = false;
        const request = { before, after, limit: slice };
        const found: RetentionStep = await store.findExpired(request);
        // Most of what lies behind the horizon stays (the newest leaf of each identity): only a slice with something to do is written.
        const isAnything = Object.values(found.counts).some((count) => count > 0);
        const done: RetentionStep = isAnything ? await store.forgetExpired(request) : found;
        const isMoreToSpend = [done.counts.tokens, done.counts.requests, done.counts.grants].includes(slice);
        // Behind the last certificate there may be more of those.
        after = done.next ?? (isMoreToSpend ? { notAfter: before, no: 0 } : null);
        if (after !== null) {
          await setTimeout(pauseMs);
          return true;
        }
      }
      const at = clock.now();
      const caller = systemCaller("retention");
      counts = await store.endRetention(
        at,
        auditEntry(caller, at, "retention.applied", "store", { before: isoTime(before) }),
      );
      events.acted("retention.applied", caller, { ...counts, before: isoTime(before) });
      return false;
    },
  };
}
