/**
 * Who is there, and which CRL is in force at each: from requests and reports, in memory. Nothing is decided by it; it tells an
 * operator who has not followed yet. What was reported before a start is read from the store the first time it is asked for.
 */
import type { Clock } from "@newleaf/shared/clock";
import type { Store } from "../../store/store.ts";
import type { Feed } from "../feed.ts";

/** A poll of the change feed within this time, held or not, is being connected: who cannot be held is told to come again after 30 s. */
export const connectedFor = 2 * 60_000;
const rowsPerTurn = 1_000;

export interface Standing {
  readonly identity: string;
  readonly connected: boolean;
  /** Of the CRL last reported to be in force there; null when none was. */
  readonly number: number | null;
}

export interface Presence {
  /** A host asks for changes: an agent runs there. Who only enrolls or renews, from a timer, follows nothing and is not waited for. */
  polled(identity: string): void;
  /** CRL numbers in force, by issuer. */
  reported(identity: string, crls: Readonly<Record<string, number>>): void;
  /** What it came with is refused from now on; it counts again when it comes again. */
  left(identity: string): void;
  /**
   * Everybody who is connected, or has reported before and is not. Who polls and has never reported counts while a poll is held.
   */
  standings(issuerId: string): Promise<readonly Standing[]>;
}

export function createPresence(store: Pick<Store, "listReportedCrls">, feed: Feed, clock: Clock): Presence {
  const lastPoll = new Map<string, number>();
  /** By identity, as it said last: by issuer, every report with invented ones would leave them behind. */
  const reports = new Map<string, ReadonlyMap<string, number>>();
  const gone = new Set<string>();
  let loading: Promise<void> | null = null;

  const note = (identity: string, crls: Readonly<Record<string, number>>): void => {
    reports.set(identity, new Map(Object.entries(crls)));
  };
  const load = async (): Promise<void> => {
    for (let after = 0; ;) {
      const rows = await store.listReportedCrls(after, rowsPerTurn, clock.now());
      // Who has reported since the start has said something newer.
      for (const { identity, crls } of rows) if (!reports.has(identity)) note(identity, crls);
      const last = rows.at(-1);
      if (last === undefined || rows.length < rowsPerTurn) return;
      after = last.position;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return {
    polled(identity) {
      lastPoll.set(identity, clock.now());
      gone.delete(identity);
    },
    // A CRL that is no longer in force there is no longer reported.
    reported: note,
    left(identity) {
      lastPoll.delete(identity);
      gone.add(identity);
    },
    async standings(issuerId) {
      loading ??= load().catch((error: unknown) => {
        loading = null;
        throw error;
      });
      await loading;
      const held = new Set(feed.held());
      const recently = clock.now() - connectedFor;
      const found: Standing[] = [];
      for (const identity of new Set(reports.keys()).union(held)) {
        const connected = held.has(identity) || (lastPoll.get(identity) ?? -Infinity) >= recently;
        if (!connected && gone.has(identity)) continue;
        found.push({ identity, connected, number: reports.get(identity)?.get(issuerId) ?? null });
      }
      return found;
    },
  };
}
