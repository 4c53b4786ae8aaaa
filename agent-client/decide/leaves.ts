/** Which of the leaves held counts for what. PURE. */
import type { HeldLeaf, Journal } from "../journal.ts";

/** The newest leaf held. */
export function newestLeaf(journal: Pick<Journal, "current" | "next">): HeldLeaf | null {
  return journal.next ?? journal.current;
}

/** When the leaf that ends first ends, of those in date: no pause may reach beyond it. Null: nothing is left to lose. */
export function deadlineOf(journal: Pick<Journal, "current" | "next">, now: number): number | null {
  const ends = [journal.current, journal.next].flatMap((leaf) =>
    leaf !== null && leaf.notAfter > now ? [leaf.notAfter] : [],
  );
  return ends.length === 0 ? null : Math.min(...ends);
}

/** The leaf to speak with: the newest one in force, never an older one again once a newer one has spoken. Null: none in date. */
export function speakingLeaf(journal: Pick<Journal, "current" | "next" | "nextUsed">, now: number): HeldLeaf | null {
  const leaf = journal.next !== null && (journal.nextUsed || journal.current === null) ? journal.next : journal.current;
  return leaf !== null && leaf.notAfter > now ? leaf : null;
}
