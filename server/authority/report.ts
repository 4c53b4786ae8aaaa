/** What agents say of their hosts: what is installed, what is served, which bundle and CRLs are in force there. */
import type { AgentReport } from "@newleaf/shared/api";
import type { PresentedLeaf } from "../store/certificates.ts";
import type { Authority } from "./authority.ts";

/** `presented` has passed the gate, which has already counted this as the leaf's first use if it was pending. */
export async function recordReport(authority: Authority, presented: PresentedLeaf, report: AgentReport): Promise<void> {
  const at = authority.clock.now();
  const clockSkew = Date.parse(report.clock) - at;
  await authority.store.recordReport({ identity: presented.identity, serial: presented.serial, at, clockSkew, report });
  authority.presence.reported(presented.identity, report.crls);
  authority.events.reported(presented, report, clockSkew);
}

/** Last seen is written at most this often for each identity; sooner, but not often, when it comes with another leaf or from elsewhere. */
const seenInterval = 5 * 60_000;
const newsInterval = 60_000;
const maxRemembered = 100_000;

interface Written {
  readonly at: number;
  readonly serial: string;
  readonly address: string;
}

const lastWritten = new WeakMap<Authority, Map<string, Written>>();

/**
 * Any authenticated request shows that its identity lives, and where its leaf is. The uses of a superseded leaf are not noted with it:
 * they must not hide where its holder was while it was current, should two hold it.
 */
export async function recordUse(authority: Authority, leaf: PresentedLeaf, address: string): Promise<void> {
  const { identity, serial } = leaf;
  const now = authority.clock.now();
  const written = lastWritten.get(authority) ?? new Map<string, Written>();
  lastWritten.set(authority, written);
  const last = written.get(identity);
  const isNews = last === undefined || last.serial !== serial || last.address !== address;
  if (last !== undefined && now - last.at < (isNews ? newsInterval : seenInterval)) return;
  if (written.size >= maxRemembered) written.clear();
  written.set(identity, { at: now, serial, address });
  // Its first use, a moment ago, is on record with its promotion.
  const isKnown = leaf.firstUsedAt !== null && now - leaf.firstUsedAt < newsInterval;
  try {
    await authority.store.recordSeen(
      identity,
      now,
      ...(leaf.state === "superseded" || isKnown ? [] : [{ serial, address }]),
    );
  } catch (error) {
    // What was asked for does not depend on it.
    written.delete(identity);
    authority.events.faulted(error, "noting when an identity was seen");
  }
}
