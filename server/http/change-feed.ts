/** GET /v1/changes: held until something differs from the caller's cursor. Bounded: in all, and for each identity. */
import type { Request, Response } from "express";
import { parseDuration } from "@newleaf/shared/duration";
import { AppError } from "@newleaf/shared/problems";
import type { Authority } from "../authority/authority.ts";
import { refuseUnfit } from "../authority/gate.ts";
import { readChanges } from "../authority/publications.ts";
import { sendJson } from "./answers.ts";
import { leafOf } from "./context.ts";

const maxWait = 55_000;
/** One for each leaf in its overlap, and a connection or two that were lost and not noticed. */
const maxHeldOfOne = 4;
const pollAgainAfterSeconds = 30;

/** `stopping` answers held polls. Whoever finds no place gets 204 and Retry-After, and polls. */
export function changeFeed(authority: Authority, stopping: AbortSignal) {
  const slots = feedSlots();
  return async (request: Request, response: Response): Promise<void> => {
    const presented = leafOf(request);
    authority.presence.polled(presented.identity);
    const { after, wait } = request.query;
    const deadline = performance.now() + Math.min(maxWait, typeof wait === "string" ? parseDuration(wait) : 0);
    const gone = new AbortController();
    response.once("close", () => gone.abort());

    let leaf = presented;
    for (;;) {
      const changes = await readChanges(authority, leaf);
      if (changes.cursor !== after) return sendJson(response, 200, changes);
      const remaining = deadline - performance.now();
      if (remaining <= 0 || stopping.aborted || gone.signal.aborted) return void response.status(204).end();
      if (!slots.take(leaf.identity, authority.config.changes.maxHeld)) {
        response.setHeader("Retry-After", String(pollAgainAfterSeconds));
        return void response.status(204).end();
      }
      try {
        await authority.feed.next(
          leaf.identity,
          AbortSignal.any([stopping, gone.signal, AbortSignal.timeout(Math.ceil(remaining))]),
        );
      } finally {
        slots.release(leaf.identity);
      }
      leaf = await stillAdmitted(authority, leaf.serial);
      // It was there until now, however long it waited; unless it left.
      if (!gone.signal.aborted) authority.presence.polled(leaf.identity);
    }
  };
}

function feedSlots() {
  const held = new Map<string, number>();
  let total = 0;
  return {
    take(identity: string, max: number): boolean {
      const mine = held.get(identity) ?? 0;
      if (total >= max || mine >= maxHeldOfOne) return false;
      held.set(identity, mine + 1);
      total += 1;
      return true;
    },
    release(identity: string): void {
      const left = (held.get(identity) ?? 1) - 1;
      if (left === 0) held.delete(identity);
      else held.set(identity, left);
      total -= 1;
    },
  };
}

/** A leaf that was revoked while its poll was held gets no news. */
async function stillAdmitted(authority: Authority, serial: string) {
  const leaf = await authority.store.findPresented(serial);
  if (leaf === null) throw new AppError("certificate-unknown");
  refuseUnfit(leaf, authority.clock.now(), authority.config.lineage.overlap);
  return leaf;
}
