/** What agents say of their hosts: what is installed, what is served, which bundle and CRLs are in force there. */
import type { AgentReport } from "@newleaf/shared/api";
import type { PresentedLeaf } from "../store/certificates.ts";
import type { Authority } from "./authority.ts";

/** `presented` has passed the gate, which has already counted this as the leaf's first use if it was pending. */
export async function recordReport(authority: Authority, presented: PresentedLeaf, report: AgentReport): Promise<void> {
  const at = authority.clock.now();
  const clockSkew = Date.parse(report.clock) - at;
  await authority.store.recordReport({ identity: presented.identity, serial: presented.serial, at, clockSkew, report });
  authority.events.reported(presented, report, clockSkew);
}

/** Last seen is written at most this often for each identity. */
const seenInterval = 5 * 60_000;
const maxRemembered = 100_000;
const lastWritten = new WeakMap<Authority, Map<string, number>>();

/** Any authenticated request shows that its identity lives. */
export async function recordSeen(authority: Authority, identity: string): Promise<void> {
  const now = authority.clock.now();
  const written = lastWritten.get(authority) ?? new Map<string, number>();
  lastWritten.set(authority, written);
  if (now - (written.get(identity) ?? 0) < seenInterval) return;
  if (written.size >= maxRemembered) written.clear();
  written.set(identity, now);
  await authority.store.recordSeen(identity, now);
}
