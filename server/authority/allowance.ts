import type { Clock } from "@newleaf/shared/clock";

/** A token bucket: so much at once, and so much in an hour from then on. */
export interface Rate {
  readonly burst: number;
  readonly perHour: number;
}

/** How often each of many may do something. Who has not done it for long is not remembered. */
export interface Allowance {
  /** True while `who` may. */
  isLeft(who: string, rate: Rate): boolean;
  /** Takes one; false, and nothing is taken, when there was none. */
  take(who: string, rate: Rate): boolean;
  /** Milliseconds until there is one again. */
  readyIn(who: string, rate: Rate): number;
}

interface Bucket {
  tokens: number;
  at: number;
  readonly rate: Rate;
}

const hour = 3_600_000;
const firstSweep = 10_000;
/** Beyond this the oldest is forgotten, in its favour: a bound of memory, about 100 bytes each. */
const maxRemembered = 200_000;

/** So many within an hour, all at once or one by one. */
export function perHour(count: number): Rate {
  return { burst: count, perHour: count };
}

export function createAllowance(clock: Clock): Allowance {
  const buckets = new Map<string, Bucket>();
  let sweepAt = firstSweep;
  const refilled = (bucket: Bucket, now: number): number => {
    // A clock that stepped back fills nothing, and must not make the wait longer either.
    if (now < bucket.at) bucket.at = now;
    return Math.min(bucket.rate.burst, bucket.tokens + ((now - bucket.at) / hour) * bucket.rate.perHour);
  };
  const tokensOf = (who: string, rate: Rate): number => {
    const bucket = buckets.get(who);
    return bucket === undefined ? rate.burst : refilled(bucket, clock.now());
  };
  const sweep = (now: number): void => {
    for (const [who, bucket] of buckets) if (refilled(bucket, now) >= bucket.rate.burst) buckets.delete(who);
    sweepAt = Math.max(firstSweep, 2 * buckets.size);
  };
  const forgetOldest = (): void => {
    const oldest = buckets.keys().next();
    if (!oldest.done) buckets.delete(oldest.value);
  };
  return {
    isLeft: (who, rate) => tokensOf(who, rate) >= 1,
    take(who, rate) {
      const tokens = tokensOf(who, rate);
      if (tokens < 1) return false;
      const now = clock.now();
      buckets.delete(who);
      buckets.set(who, { tokens: tokens - 1, at: now, rate });
      if (buckets.size > maxRemembered) forgetOldest();
      else if (buckets.size >= sweepAt) sweep(now);
      return true;
    },
    readyIn(who, rate) {
      const missing = 1 - tokensOf(who, rate);
      return missing <= 0 ? 0 : Math.ceil((missing / rate.perHour) * hour);
    },
  };
}
