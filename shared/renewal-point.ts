import { createHash } from "node:crypto";

/**
 * The moment inside a renewal window at which this identity renews: a hash spreads the fleet evenly, and the same identity
 * finds the same point after every restart.
 * @param window milliseconds since the epoch
 * @returns milliseconds, start ≤ point < end (or start, when the window is empty)
 */
export function renewalPoint(window: { readonly start: number; readonly end: number }, identity: string): number {
  const share = createHash("sha256").update(identity).digest().readUIntBE(0, 6) / 2 ** 48;
  return Math.floor(window.start + share * Math.max(0, window.end - window.start));
}
