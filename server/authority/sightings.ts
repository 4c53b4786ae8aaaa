import type { Clock } from "@newleaf/shared/clock";

/**
 * Tells the first sight of something from its repetitions, so that what a stranger can repeat is audited once and then only
 * counted. Bounded: at the limit the oldest are forgotten (and would be audited again).
 */
export interface Sightings {
  /** True when this key was not seen within the last hour. */
  isFirst(key: string): boolean;
}

const forgetAfter = 3_600_000;
const maxRemembered = 10_000;

export function createSightings(clock: Clock): Sightings {
  const seen = new Map<string, number>();
  return {
    isFirst(key) {
      const now = clock.now();
      const last = seen.get(key);
      if (last !== undefined && now - last < forgetAfter) return false;
      seen.delete(key);
      seen.set(key, now);
      if (seen.size > maxRemembered) {
        const oldest = seen.keys().next();
        if (!oldest.done) seen.delete(oldest.value);
      }
      return true;
    },
  };
}
