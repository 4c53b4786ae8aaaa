import type { Clock } from "@newleaf/shared/clock";
import { networkOf } from "@newleaf/shared/network";
import { createAllowance, perHour } from "./allowance.ts";
import type { Caller } from "./authority.ts";

/**
 * Tells the first sight of something from its repetitions, so that what somebody can repeat is audited once and then only counted.
 * Bounded twice: in memory, and in the first sights that each caller, and all strangers together, can make within an hour.
 */
export interface Sightings {
  /** True when this was not seen within the last hour and the caller has not had his fill of first sights. */
  isFirst(key: string, caller: Pick<Caller, "actorKind" | "actor" | "address">): boolean;
}

const forgetAfter = 3_600_000;
const maxRemembered = 10_000;
const maxOfActor = perHour(100);
const maxOfNetwork = perHour(30);
const maxOfStrangers = perHour(500);

export function createSightings(clock: Clock): Sightings {
  const seen = new Map<string, number>();
  const allowance = createAllowance(clock);
  const isAllowed = ({ actorKind, actor, address }: Pick<Caller, "actorKind" | "actor" | "address">): boolean => {
    if (actorKind !== "stranger") return allowance.take(`${actorKind} ${actor}`, maxOfActor);
    return allowance.take(`from ${networkOf(address)}`, maxOfNetwork) && allowance.take("strangers", maxOfStrangers);
  };
  return {
    isFirst(key, caller) {
      const now = clock.now();
      const last = seen.get(key);
      if (last !== undefined && now - last < forgetAfter) return false;
      if (!isAllowed(caller)) return false;
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
