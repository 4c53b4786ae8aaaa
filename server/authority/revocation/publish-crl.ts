/**
 * CRLs are projections of the revocations in the store. A revocation and the CRL that lists it are committed together: the CRL is
 * built and signed first, with the revocations about to be recorded, and both go into one transaction. One publication at a time for
 * each service, so that numbers follow one another.
 */
import { AppError } from "@newleaf/shared/problems";
import { thisUpdateOf } from "../../ca/crl-times.ts";
import { buildCrl, encodeRevoked } from "../../ca/crl.ts";
import type { CrlRecord } from "../../store/issuers.ts";
import type { RevocationRecord } from "../../store/revocations.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";

export interface CrlChange {
  /** About to be revoked; they replace earlier records of the same serial. */
  readonly add?: readonly RevocationRecord[];
  /** A hold about to be lifted. */
  readonly lift?: { readonly issuerId: string; readonly serial: string };
}

/** Entries encoded before other work gets its turn: about 5 ms. */
const entriesPerTurn = 5_000;

const lastPublication = new WeakMap<Authority, Promise<unknown>>();

/**
 * Builds the next CRL of every issuer that `change` touches and hands them to `commit`, which records them together with the change.
 * An issuer whose key is not at hand is left out: the revocation counts all the same, and its CRL follows when the key is back.
 */
export async function withNextCrls<T>(
  authority: Authority,
  change: CrlChange,
  commit: (crls: readonly CrlRecord[]) => Promise<T>,
): Promise<T> {
  return inPublicationTurn(authority, () => commitWithNextCrls(authority, change, commit));
}

/** The same for who has its turn already (`inPublicationTurn`) and decides within it what is to be revoked. */
export async function commitWithNextCrls<T>(
  authority: Authority,
  change: CrlChange,
  commit: (crls: readonly CrlRecord[]) => Promise<T>,
): Promise<T> {
  const issuerIds = new Set((change.add ?? []).map((record) => record.issuerId));
  if (change.lift !== undefined) issuerIds.add(change.lift.issuerId);
  const crls: CrlRecord[] = [];
  for (const id of issuerIds) {
    if (authority.issuers.signers.has(id)) crls.push(await nextCrl(authority, id, change));
  }
  const result = await commit(crls);
  for (const crl of crls) releaseCrl(authority, crl);
  return result;
}

/**
 * Publishes a fresh CRL of one issuer.
 * @throws AppError not-found, issuer-unavailable (its key is not at hand: roots are offline)
 */
export async function publishCrl(
  authority: Authority,
  caller: Caller,
  issuerId: string,
  reason: string,
): Promise<CrlRecord> {
  caller.target = issuerId;
  if (!authority.issuers.rows.some((row) => row.id === issuerId))
    throw new AppError("not-found", `There is no issuer ${issuerId}`);
  if (!authority.issuers.signers.has(issuerId)) {
    throw new AppError(
      "issuer-unavailable",
      `The key of issuer ${issuerId} is not on this host; its CRL is made at the ceremony`,
    );
  }
  return onFreshBasis(() =>
    inPublicationTurn(authority, async () => {
      const crl = await nextCrl(authority, issuerId, {});
      const entry = auditEntry(caller, authority.clock.now(), "crl.published", issuerId, {
        number: crl.number,
        reason,
      });
      await authority.store.recordCrl(crl, [entry]);
      releaseCrl(authority, crl);
      return crl;
    }),
  );
}

/** Publishes for every issuer whose newest CRL is older than the interval, or lacks a recorded revocation (a crash, a key that was away). */
export async function publishDueCrls(authority: Authority, caller: Caller): Promise<void> {
  const now = authority.clock.now();
  const stale = new Set(await authority.store.listStaleCrlIssuers());
  for (const row of authority.issuers.rows) {
    if (row.notAfter <= now) continue;
    // A revoked issuer says who is revoked for as long as it can: not every verifier looks at its parent's CRL.
    if ((row.state === "retired" && row.revokedAt == null) || !authority.issuers.signers.has(row.id)) continue;
    const newest = authority.issuers.crls.get(row.id);
    if (newest === undefined || stale.has(row.id) || isDue(newest, now, authority)) {
      await publishCrl(authority, caller, row.id, stale.has(row.id) ? "revocations not yet listed" : "schedule");
    }
  }
}

/** A clock that stepped back makes thisUpdate lie in the future: publish then too. */
function isDue(newest: CrlRecord, now: number, { config }: Authority): boolean {
  // Read from the store it does not say when it was made: then it is due a little early.
  return now - (newest.asOf ?? newest.thisUpdate) >= config.crl.interval || newest.thisUpdate > now + 1_000;
}

async function nextCrl(authority: Authority, issuerId: string, change: CrlChange): Promise<CrlRecord> {
  const issuer = authority.issuers.signers.get(issuerId);
  const row = authority.issuers.rows.find((candidate) => candidate.id === issuerId);
  if (issuer === undefined || row === undefined) throw new AppError("issuer-unavailable");
  const now = authority.clock.now();
  const bySerial = new Map(
    (await authority.store.listRevocations(issuerId, now)).map((record) => [record.serial, record]),
  );
  for (const record of change.add ?? []) if (record.issuerId === issuerId) bySerial.set(record.serial, record);
  if (change.lift?.issuerId === issuerId) bySerial.delete(change.lift.serial);

  const { lifetime } = authority.config.crl;
  const thisUpdate = thisUpdateOf(now, authority.issuers.crls.get(issuerId)?.thisUpdate ?? null, lifetime);
  const nextUpdate = Math.min(Math.floor(now / 1000) * 1000 + lifetime, row.notAfter);
  const revoked = await encodeInTurns([...bySerial.values()]);
  const number = await authority.store.nextCrlNumber(issuerId);
  return {
    issuerId,
    number,
    thisUpdate,
    nextUpdate,
    asOf: now,
    der: buildCrl({ issuer, number, thisUpdate, nextUpdate, revoked }),
  };
}

async function encodeInTurns(records: readonly RevocationRecord[]): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let start = 0; start < records.length; start += entriesPerTurn) {
    if (start > 0) await new Promise((resolve) => setImmediate(resolve));
    parts.push(encodeRevoked(records.slice(start, start + entriesPerTurn)));
  }
  return Buffer.concat(parts);
}

/** After the commit: served from now on, and held polls are told. */
export function releaseCrl(authority: Authority, crl: CrlRecord): void {
  authority.issuers.crls.set(crl.issuerId, crl);
  authority.events.crlPublished(crl);
  authority.feed.announce();
}

/** Runs after every earlier publication has ended, whatever its outcome. Not to be nested. */
export async function inPublicationTurn<T>(authority: Authority, work: () => Promise<T>): Promise<T> {
  const before = lastPublication.get(authority) ?? Promise.resolve();
  const mine = before.then(work, work);
  lastPublication.set(
    authority,
    mine.catch(() => undefined),
  );
  return mine;
}
