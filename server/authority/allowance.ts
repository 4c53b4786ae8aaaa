import type { Clock } from "@newleaf/shared/clock";

/** How often each of many may do something within an hour. Only what happened in this hour is remembered. */
export interface Allowance {
  /** True while `who` has done it less than `max` times in this hour. */
  isLeft(who: string, max: number): boolean;
  /** Counts once more; true while it was less than `max`. */
  take(who: string, max: number): boolean;
  /** Milliseconds until everybody may again. */
  renewsIn(): number;
}

const hour = 3_600_000;

export function createAllowance(clock: Clock): Allowance {
  const taken = new Map<string, number>();
  let since = clock.now();
  const countOf = (who: string): number => {
    const now = clock.now();
    // A clock that stepped back must not make the hour longer.
    if (now - since >= hour || now < since) {
      taken.clear();
      since = now;
    }
    return taken.get(who) ?? 0;
  };
  return {
    isLeft: (who, max) => countOf(who) < max,
    take(who, max) {
      const count = countOf(who);
      if (count < max) taken.set(who, count + 1);
      return count < max;
    },
    renewsIn: () => Math.min(hour, Math.max(1000, since + hour - clock.now())),
  };
}
