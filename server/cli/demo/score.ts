import type { Summary } from "./events.ts";
import { createGatewayStory, type GatewayStory } from "./gateway-story.ts";
import type { Load } from "./load.ts";

/** What counts in the end. It can be read at any time: a demo that failed halfway sums up too. */
export interface Score {
  readonly story: GatewayStory;
  /** Null until the client has begun. */
  load: Pick<Load, "requests" | "dropped"> | null;
  /** A revoked certificate was refused by service and gateway. */
  revokedRefused: boolean;
}

export function createScore(): Score {
  return { story: createGatewayStory(), load: null, revokedRefused: false };
}

export function summaryOf({ story, load, revokedRefused }: Score): Summary {
  return {
    renewals: story.renewals(),
    served: story.complete(),
    revokedRefused,
    requests: load?.requests() ?? 0,
    dropped: load?.dropped() ?? 0,
  };
}
