import { setTimeout as sleep } from "node:timers/promises";
import { DemoFailure } from "./failure.ts";

export interface Waiting {
  /** Ends the sentence "… did not happen within 30 s". */
  readonly what: string;
  readonly timeoutMs: number;
  /** Aborted with the reason when something else of the demo failed. */
  readonly signal: AbortSignal;
}

const pollEveryMs = 50;

/**
 * Resolves as soon as the condition gives something, and to that.
 * @throws DemoFailure when it does not in time; the signal's reason when that comes first
 */
export async function until<T>(
  condition: () => T | null | undefined | false | Promise<T | null | undefined | false>,
  { what, timeoutMs, signal }: Waiting,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    signal.throwIfAborted();
    const value = await condition();
    if (value !== null && value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new DemoFailure(`${what} did not happen within ${timeoutMs / 1000} s`);
    await pause(pollEveryMs, signal);
  }
}

/** @throws the signal's reason */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
