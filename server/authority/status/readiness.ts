import type { Authority } from "../authority.ts";
import { activeIssuer } from "../issuers.ts";

/** Why the service cannot issue now; empty when it can: the store commits and an issuer's key is at hand. */
export async function whyNotReady(authority: Authority): Promise<readonly string[]> {
  const problems: string[] = [];
  try {
    activeIssuer(authority.issuers);
  } catch (error) {
    problems.push(error instanceof Error ? error.message : "no issuer");
  }
  try {
    await authority.store.ping();
  } catch (error) {
    authority.events.faulted(error, "readiness");
    const journal = await authority.store.journalStatus();
    const isJournal = journal !== null && journal.failure !== null;
    problems.push(isJournal ? "the store cannot commit: its journal cannot be written" : "the store cannot commit");
  }
  return problems;
}
