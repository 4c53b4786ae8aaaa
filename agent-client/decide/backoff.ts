/** When to try again. Pure: the random number is a parameter. */

/** What went wrong lately with one kind of work, and when it may be tried again. */
export interface Retry {
  readonly failures: number;
  readonly notBefore: number;
}

export const noFailures: Retry = Object.freeze({ failures: 0, notBefore: 0 });

/** Never faster than this, whatever is about to expire. */
export const shortestPauseMs = 250;
const shortestShare = 0.02;
/** Longer than this nobody waits, whoever asks for it: what `decide` believes of a time in the future reaches an hour further. */
export const longestPauseMs = 24 * 3_600_000;

export interface BackoffInput {
  readonly now: number;
  /** Failures in a row, this one included. */
  readonly failures: number;
  /** Upper end of the first pause. */
  readonly baseMs: number;
  /** Upper end of the longest. */
  readonly capMs: number;
  /** What the service asked for. */
  readonly retryAfterSeconds?: number | undefined;
  /** When the leaf that this is about expires; null when nothing is left to lose. */
  readonly deadline: number | null;
  /** Uniform in [0, 1). */
  readonly random: number;
}

/**
 * Exponential back-off with full jitter: uniform between nothing and min(cap, base · 2^(failures − 1)), so that a hundred thousand
 * agents that failed together do not come back together. `Retry-After` is a lower end, with jitter on top. Whatever comes out, no
 * pause is longer than half of what is left until the deadline: every leaf gets many more attempts before it expires.
 *
 * @returns the moment, at least `shortestPauseMs` away
 */
export function retryAt(input: BackoffInput): number {
  const { now, deadline, random } = input;
  const ceiling = Math.min(input.capMs, input.baseMs * 2 ** Math.min(30, Math.max(0, input.failures - 1)));
  const asked = (input.retryAfterSeconds ?? 0) * 1000;
  let pause = Math.max(asked + random * Math.min(ceiling, asked * 0.2), random * ceiling, ceiling * shortestShare);
  if (deadline !== null && deadline > now) pause = Math.min(pause, (deadline - now) / 2);
  return now + Math.min(longestPauseMs, Math.max(shortestPauseMs, Math.ceil(pause)));
}
