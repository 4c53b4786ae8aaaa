import type { Clock } from "@newleaf/shared/clock";
import type { PauseRow, PauseStore } from "../../store/pauses.ts";

/** Who is paused, and who is about to be: in memory, because it is asked before anything else is looked at. */
export interface PauseDesk {
  /** The pause of this subject, while it stands and what it relied on is unchanged. Counts one more refusal of it. */
  knock(subject: string, basis: string, address: string): PauseRow | null;
  /** Counts a refusal; how often it was refused on this basis within a day. */
  refused(subject: string, basis: string): number;
  /** Whether another pause may be made: there is a bound. */
  hasRoom(): boolean;
  add(pause: PauseRow): void;
  drop(subjects: readonly string[]): void;
  /** How many are paused. */
  count(): number;
  /** As stored, with what was counted since. */
  current(pause: PauseRow): PauseRow;
}

export const pauseLife = 24 * 3_600_000;
const maxCounted = 20_000;
const maxPauses = 10_000;
const pageSize = 1_000;

interface Count {
  readonly basis: string;
  readonly since: number;
  refusals: number;
}

/** Reads those that stand. */
export async function openPauseDesk(store: Pick<PauseStore, "listPauses">, clock: Clock): Promise<PauseDesk> {
  const pauses = new Map<string, PauseRow>();
  for (let cursor: string | null | undefined; cursor !== null;) {
    const now = clock.now();
    const page = await store.listPauses({ limit: pageSize, now, ...(cursor === undefined ? {} : { cursor }) });
    for (const row of page.items) pauses.set(row.subject, row);
    cursor = page.nextCursor;
  }
  return pauseDesk(pauses, clock);
}

function pauseDesk(pauses: Map<string, PauseRow>, clock: Clock): PauseDesk {
  const counts = new Map<string, Count>();
  // A clock that was set back must not make a day longer.
  const stands = ({ since, until }: Pick<PauseRow, "since" | "until">): boolean => {
    const now = clock.now();
    return now >= since && now < until;
  };
  const sweep = (): void => {
    for (const [subject, pause] of pauses) if (!stands(pause)) pauses.delete(subject);
  };
  return {
    knock(subject, basis, address) {
      const pause = pauses.get(subject);
      if (pause === undefined || !stands(pause) || pause.basis !== basis) return null;
      const known = { ...pause, refusals: pause.refusals + 1, address };
      pauses.set(subject, known);
      return known;
    },
    refused(subject, basis) {
      const now = clock.now();
      const known = counts.get(subject);
      const goes =
        known !== undefined && known.basis === basis && stands({ since: known.since, until: known.since + pauseLife });
      const count = goes ? known : { basis, since: now, refusals: 0 };
      count.refusals += 1;
      counts.delete(subject);
      counts.set(subject, count);
      if (counts.size > maxCounted) {
        const oldest = counts.keys().next();
        if (!oldest.done) counts.delete(oldest.value);
      }
      return count.refusals;
    },
    hasRoom() {
      if (pauses.size >= maxPauses) sweep();
      return pauses.size < maxPauses;
    },
    add(pause) {
      counts.delete(pause.subject);
      pauses.set(pause.subject, pause);
    },
    drop(subjects) {
      for (const subject of subjects) {
        pauses.delete(subject);
        counts.delete(subject);
      }
    },
    count() {
      sweep();
      return pauses.size;
    },
    current: (pause) => {
      const known = pauses.get(pause.subject);
      return known?.since === pause.since ? known : pause;
    },
  };
}
