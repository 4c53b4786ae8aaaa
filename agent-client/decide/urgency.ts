/** Whether a failure is still a nuisance or already an emergency: how much time is left to mend it. PURE. */
import type { HeldLeaf, RetryKind } from "../journal.ts";

/** Of a leaf's life: whatever window the service names, renewal begins no later, and what fails from then on is an error. */
export const latestRenewal = 0.9;
/** Of a CRL's life. The service publishes many in that time; a proxy refuses every client when the last one is over. */
const crlQuiet = 0.75;

export interface Remaining {
  readonly now: number;
  /** The newest leaf held. */
  readonly leaf: Pick<HeldLeaf, "receivedAt" | "notAfter"> | null;
  readonly crls: Iterable<{ readonly thisUpdate: number; readonly nextUpdate: number }>;
}

/** Trust work is late when a CRL is about to be over; all other work when the leaf is. */
export function isLate(kind: RetryKind, { now, leaf, crls }: Remaining): boolean {
  if (kind === "trust") return [...crls].some((crl) => now >= at(crl.thisUpdate, crl.nextUpdate, crlQuiet));
  return leaf !== null && now >= at(leaf.receivedAt, leaf.notAfter, latestRenewal);
}

function at(start: number, end: number, share: number): number {
  return start + share * (end - start);
}
