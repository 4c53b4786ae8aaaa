import type { Server } from "node:net";
import type { Crowd } from "../authority/herd/crowd.ts";

/** Tells the crowd of each round of the event loop, from one that accepts a connection to the first that does not. */
export function watchCrowd(server: Server, crowd: Crowd): void {
  let accepted = false;
  let watching = false;
  const endOfRound = (): void => {
    crowd.sawRound(accepted);
    watching = accepted;
    accepted = false;
    // While one is due the loop does not sleep: the next round finds whoever waits now, or nobody.
    if (watching) setImmediate(endOfRound);
  };
  server.on("connection", () => {
    accepted = true;
    if (watching) return;
    watching = true;
    setImmediate(endOfRound);
  });
}
