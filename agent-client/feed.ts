/**
 * Holds `GET /v1/changes` open, so that a revocation or a moved window is known within a second. It only brings news into memory and
 * wakes the loop; where it cannot be held, the loop's own polls do the work, later.
 */
import { retryAt } from "./decide/backoff.ts";
import type { AgentContext } from "./context.ts";
import { speakingLeaf } from "./decide/leaves.ts";
import type { HeldLeaf } from "./journal.ts";
import { sleep } from "./wake.ts";

/** Between an answer without news and the next question, so that no service that answers at once is asked in a circle. */
const leastPauseMs = 1000;
const checkMs = 1000;
const pauses = { baseMs: 1000, capMs: 60_000 };
/** A service that wants to be left alone for longer is asked for its window and bundle all the same. */
const longestPauseMs = 15 * 60_000;

/** Follows until the signal aborts. Never throws. */
export async function followChanges(context: AgentContext, signal: AbortSignal): Promise<void> {
  const { view } = context;
  let cursor: string | null = null;
  let failures = 0;
  while (!signal.aborted) {
    const leaf = speaker(context);
    if (leaf === null) {
      await sleep(checkMs, signal);
      continue;
    }
    try {
      const answer = await ask(context, leaf, cursor, signal);
      failures = 0;
      cursor = answer.cursor ?? cursor;
      view.feedAlive = answer.retryAfterSeconds === undefined;
      const asked = (answer.retryAfterSeconds ?? 0) * 1000;
      await sleep(Math.min(longestPauseMs, Math.max(leastPauseMs, asked)), signal);
    } catch {
      // What is wrong is for the loop to find and to say; here it only means to poll.
      view.feedAlive = false;
      failures += 1;
      const now = context.clock.now();
      const at = retryAt({ ...pauses, now, failures, deadline: leaf.notAfter, random: context.random() });
      await sleep(at - now, signal);
    }
  }
  view.feedAlive = false;
}

interface FeedAnswer {
  readonly cursor: string | null;
  readonly retryAfterSeconds: number | undefined;
}

async function ask(
  context: AgentContext,
  leaf: HeldLeaf,
  cursor: string | null,
  signal: AbortSignal,
): Promise<FeedAnswer> {
  const { credentials, client, view, trust, wake } = context;
  const credential = await credentials.readLeaf(leaf.fingerprint);
  const moved = new AbortController();
  // A poll that an old leaf holds is given up when a newer one speaks.
  const watch = setInterval(() => {
    if (speaker(context)?.fingerprint !== leaf.fingerprint) moved.abort();
  }, checkMs);
  try {
    const answer = await client.changes(credential, cursor, AbortSignal.any([signal, moved.signal]));
    if (answer.changes !== null) {
      trust.announce(answer.changes);
      view.windowHint = { fingerprint: leaf.fingerprint, ...answer.changes.renewal };
      wake.now();
    }
    return { cursor: answer.changes?.cursor ?? null, retryAfterSeconds: answer.retryAfterSeconds };
  } catch (error) {
    if (moved.signal.aborted) return { cursor: null, retryAfterSeconds: undefined };
    throw error;
  } finally {
    clearInterval(watch);
  }
}

/** Not a leaf whose first use has not been decided yet: a poll would promote it. */
function speaker({ journal, clock }: AgentContext): HeldLeaf | null {
  const { current, next, nextUsed } = journal.state;
  if (current === null && next !== null && !nextUsed) return null;
  return speakingLeaf(journal.state, clock.now());
}
