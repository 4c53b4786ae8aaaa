/** How it stands with one certificate, from its journal: a word for it, what comes next, and what is waited for. PURE. */
import { isProblemCode, problems } from "@newleaf/shared/problems";
import type { Hold } from "../decide/choice.ts";
import { renewalDue } from "../decide/decide.ts";
import { newestLeaf } from "../decide/leaves.ts";
import { type Journal, retryKinds } from "../journal.ts";
import type { CertificateStatus, ServedState } from "./shape.ts";

/** In one word; the worst of what is true. */
export function stateOf(
  journal: Journal,
  served: ServedState,
  hold: Hold | null,
  now: number,
): CertificateStatus["state"] {
  const newest = newestLeaf(journal);
  if (newest === null) return journal.retries.ask.error?.code === "waiting" ? "waiting" : "not-enrolled";
  if (newest.notAfter <= now) return "expired";
  if (journal.notServed !== null || served === "not-served" || served === "unreachable") return "not-served";
  if (refusalOf(journal) !== null) return "refused";
  if (isTakenBack(journal, now)) return "taken-back";
  if (retryKinds.some((kind) => journal.retries[kind].error !== null)) return "failing";
  if (hold !== null) return "announced";
  return journal.next === null ? "ok" : "installing";
}

/** What comes next for one certificate, and when. */
export function nextOf(journal: Journal, hold: Hold | null, now: number): CertificateStatus["next"] {
  const newest = newestLeaf(journal);
  const { retries } = journal;
  const not = (at: number): string => iso(Math.max(at, now));
  if (newest === null) return { action: "enroll", at: retries.ask.error === null ? null : not(retries.ask.notBefore) };
  if (newest.notAfter <= now) return { action: "ask for recovery", at: not(retries.ask.notBefore) };
  if (journal.notServed !== null) return { action: "reload and probe again", at: not(retries.serve.notBefore) };
  if (retries.install.error !== null) return { action: "install again", at: not(retries.install.notBefore) };
  if (isTakenBack(journal, now))
    return { action: "try what was taken back again", at: not(retries.quarantine.notBefore) };
  if (hold?.why === "unannounced")
    return { action: "announce the next certificate", at: not(retries.announce.notBefore) };
  if (hold?.why === "announced") return { action: "switch to the announced certificate", at: not(hold.until) };
  const refusal = refusalOf(journal);
  if (refusal !== null)
    return { action: `ask again; refused until an operator acts (${refusal.code})`, at: not(refusal.notBefore) };
  if (journal.next !== null) return { action: "install, prove and report", at: not(retries.report.notBefore) };
  return { action: "renew", at: not(Math.max(renewalDue(newest, journal.window), retries.ask.notBefore)) };
}

/**
 * The same, once the disk was looked at: the server goes on with what it has in memory, and would not start from files that somebody
 * has spoilt.
 */
export function withDisk(
  outlook: Pick<CertificateStatus, "state" | "next">,
  isSpoilt: boolean,
  now: number,
): Pick<CertificateStatus, "state" | "next"> {
  if (!isSpoilt || outlook.state !== "ok") return outlook;
  return { state: "failing", next: { action: "put the files on disk right", at: iso(now) } };
}

/** What the service will go on refusing: whatever was planned, it comes to nothing. */
function refusalOf({ retries }: Journal): { code: string; notBefore: number } | null {
  for (const kind of ["ask", "report", "window", "trust"] as const) {
    const { error, notBefore } = retries[kind];
    if (error !== null && isProblemCode(error.code) && problems[error.code].retry === "never")
      return { code: error.code, notBefore };
  }
  return null;
}

function isTakenBack({ quarantine, retries }: Journal, now: number): boolean {
  return quarantine !== null && retries.quarantine.notBefore > now;
}

export function announcedOf(journal: Journal, hold: Hold | null): CertificateStatus["announced"] {
  const newest = newestLeaf(journal);
  if (hold === null || hold.why === "quarantined" || newest === null) return null;
  const at = hold.why === "announced" && journal.announced !== null ? iso(journal.announced.at) : null;
  return { fingerprint: newest.fingerprint, at, switchesAt: iso(hold.until) };
}

export function quarantineOf({ quarantine, retries }: Journal, now: number): CertificateStatus["quarantine"] {
  if (quarantine === null) return null;
  const { row, since, detail } = quarantine;
  return { row, since: iso(since), detail, retryAt: iso(Math.max(retries.quarantine.notBefore, now)) };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
