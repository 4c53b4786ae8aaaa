/** How often things are looked at, and when something that failed may be tried again. PURE. */
import { longestPauseMs } from "./backoff.ts";
import type { HeldLeaf, Journal, RetryKind } from "../journal.ts";

/** In proportion to a leaf's life: a month or fifteen seconds. Milliseconds. */
export interface Pace {
  readonly trust: number;
  readonly window: number;
  readonly look: number;
  readonly report: number;
  /** Longest sleep: wall time is looked at again at least this often, because hosts sleep and clocks step. */
  readonly tick: number;
  /** How long before its end a leaf is "about to expire". */
  readonly margin: number;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const defaultLife = 30 * 24 * hour;
/** No retry and no timer reaches further; whatever says so was written by a clock that was wrong. */
const furthest = longestPauseMs + hour;

export function paceOf(leaf: Pick<HeldLeaf, "receivedAt" | "notAfter"> | null, feedAlive: boolean): Pace {
  const life = leaf === null ? defaultLife : Math.max(second, leaf.notAfter - leaf.receivedAt);
  const share = (part: number, least: number, most: number): number => Math.min(most, Math.max(least, life / part));
  return {
    trust: feedAlive ? share(10, 5 * second, 6 * hour) : share(50, 2 * second, 15 * minute),
    window: feedAlive ? share(10, 5 * second, 12 * hour) : share(30, second, 6 * hour),
    look: share(100, 5 * second, 5 * minute),
    report: share(30, 5 * second, 6 * hour),
    tick: share(20, 200, 30 * second),
    margin: share(10, 0, hour),
  };
}

/** When this kind of work may be tried: now, unless it failed lately. */
export function gate(journal: Pick<Journal, "retries">, kind: RetryKind, now: number): number {
  const { notBefore } = journal.retries[kind];
  return notBefore - now > furthest ? now : Math.max(notBefore, now);
}

/** Every so often; `last` in the future was written by a clock that was wrong. */
export function after(now: number, last: number | null, every: number): number {
  return last === null || last > now ? now : last + every;
}
