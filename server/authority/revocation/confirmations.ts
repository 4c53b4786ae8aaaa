/** Which hosts have a CRL in force: who has confirmed it, who has not yet, and who is silent. */
import { AppError } from "@newleaf/shared/problems";
import type { Authority } from "../authority.ts";
import type { Standing } from "./presence.ts";
import { requireIssuer } from "../publications.ts";

/** Names in an answer; the counts are always whole. */
const maxNamed = 100;

export interface Unconfirmed {
  readonly identity: string;
  /** Of the CRL in force there, as last reported; null when none was. */
  readonly number: number | null;
  readonly lastSeenAt: number | null;
  /** What its agent says stands in the way. */
  readonly failure: string | null;
}

export interface Confirmations {
  readonly issuer: string;
  readonly number: number;
  /** Agents that are connected: they hold a poll of the change feed, or made one within two minutes. */
  readonly connected: number;
  /** Of them, with this CRL or a newer one in force. */
  readonly confirmed: number;
  /** Connected and not confirmed: the first of them. */
  readonly unconfirmed: readonly Unconfirmed[];
  /** Reported before and are not connected: how many, and the first of those who have not confirmed. */
  readonly silent: number;
  readonly silentUnconfirmed: readonly Unconfirmed[];
}

/**
 * Agents report soon after a CRL came into force at their proxy. One that cannot reload keeps reporting the CRL that the proxy has.
 * @throws AppError not-found, request-invalid (no such CRL yet)
 */
export async function readConfirmations(
  authority: Authority,
  issuerId: string,
  number: number,
): Promise<Confirmations> {
  requireIssuer(authority, issuerId);
  const newest = authority.issuers.crls.get(issuerId)?.number ?? 0;
  if (number > newest)
    throw new AppError("request-invalid", `Issuer ${issuerId} has published no CRL ${number}; its newest is ${newest}`);
  const standings = await authority.presence.standings(issuerId);
  const hasIt = (standing: Standing): boolean => (standing.number ?? -1) >= number;
  const connected = standings.filter((standing) => standing.connected);
  const silent = standings.filter((standing) => !standing.connected);
  return {
    issuer: issuerId,
    number,
    connected: connected.length,
    confirmed: connected.filter(hasIt).length,
    unconfirmed: await named(authority, connected, hasIt),
    silent: silent.length,
    silentUnconfirmed: await named(authority, silent, hasIt),
  };
}

async function named(
  { store }: Authority,
  standings: readonly Standing[],
  hasIt: (standing: Standing) => boolean,
): Promise<readonly Unconfirmed[]> {
  const found: Unconfirmed[] = [];
  for (const standing of standings) {
    if (hasIt(standing)) continue;
    if (found.length === maxNamed) break;
    const { identity, number } = standing;
    const row = await store.findIdentity(identity);
    const failure = (await store.findReport(identity))?.report.failure;
    found.push({
      identity,
      number,
      lastSeenAt: row?.lastSeenAt ?? null,
      failure: failure === undefined ? null : `${failure.step}: ${failure.message}`,
    });
  }
  return found;
}
