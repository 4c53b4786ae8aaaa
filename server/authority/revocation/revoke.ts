/** Revocation by serial, lineage, identity or key; holds and their release. Refused from the very next request, on the CRL in the same transaction. */
import { AppError } from "@newleaf/shared/problems";
import { revocationReasons } from "@newleaf/shared/api";
import type { AuditEntry } from "../../store/audit.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import type { CrlRecord } from "../../store/issuers.ts";
import type { RevocationReason, RevocationRecord } from "../../store/revocations.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { requireTouch } from "../permissions.ts";
import { commitWithNextCrls, inPublicationTurn, withNextCrls } from "./publish-crl.ts";
import { type Place, whereabouts } from "./whereabouts.ts";

export type RevocationTarget =
  | { readonly serial: string }
  | { readonly lineage: string }
  | { readonly identity: string }
  | { readonly key: string };

export interface Revoked {
  readonly serial: string;
  readonly identity: string;
  readonly reason: RevocationReason;
  /** `revoked` by this act, or `unchanged`: it already was, for the same reason. */
  readonly outcome: "revoked" | "unchanged";
  readonly notAfter: number;
  /** By the last report of its host. */
  readonly places: readonly Place[];
}

export interface RevocationOutcome {
  /** The first of them, at most `maxTold`. */
  readonly revoked: readonly Revoked[];
  /** All that are or would be revoked, told or not. */
  readonly total: number;
  /** Leaves of the target that are past their end: nothing accepts them, and no CRL needs to list them. */
  readonly expired: number;
  readonly blockedKeys: readonly string[];
  readonly dryRun: boolean;
  /** For each issuer concerned, the CRL that first lists all of it; null while none does (its key is not at hand). */
  readonly crls: readonly ListingCrl[];
}

export interface ListingCrl {
  readonly issuer: string;
  readonly number: number | null;
}

/** More would be no answer for people; `total` is always right. */
export const maxTold = 1_000;

/** @throws AppError reason-invalid */
export function parseReason(text: string): RevocationReason {
  const reason = revocationReasons.find((candidate) => candidate === text);
  if (reason === undefined) {
    throw new AppError(
      "reason-invalid",
      `"${text.slice(0, 40)}" is not a reason that can be used; use one of ${revocationReasons.join(", ")}`,
    );
  }
  return reason;
}

/**
 * Revokes every unexpired leaf of the target. By one serial: a repeated reason is unchanged, another is `already-revoked` except
 * hold → final and any → keyCompromise. By lineage, identity or key: what is already finally revoked is left as it is.
 * keyCompromise blocks the keys; revoking a lineage ends it and blocks its keys.
 * @throws AppError serial-unknown, not-found, already-revoked, not-permitted
 */
export async function revoke(
  authority: Authority,
  caller: Caller,
  target: RevocationTarget,
  reason: RevocationReason,
  { dryRun = false }: { dryRun?: boolean } = {},
): Promise<RevocationOutcome> {
  caller.target = Object.values(target).join();
  // Decided within the turn: whoever renews without pause replaces leaves, and each replacement would make an older decision stale.
  const decideAndRecord = async (): Promise<RevocationOutcome> => {
    const now = authority.clock.now();
    const { leaves, expired } = await findTargets(authority, target, now);
    const touched = new Set(leaves.map((leaf) => leaf.identity));
    // A key without a leaf in date is somebody's all the same, and may be blocked.
    if ("key" in target) touched.add((await authority.store.findKey(target.key))?.identity ?? "");
    for (const id of touched) await requireTouch(authority, caller, id);
    const identity = [...touched].find((id) => id !== "") ?? null;
    const judged = leaves
      .filter((leaf) => "serial" in target || leaf.notAfter > now)
      .map((leaf) => ({ leaf, change: judge(leaf, reason, "serial" in target) }));
    const changing = judged.filter(({ change }) => change === "revoked").map(({ leaf }) => leaf);
    const lineages = "lineage" in target ? [target.lineage] : [];
    const blockedKeys = keysToBlock(target, leaves, reason);
    const outcome = await tell(authority, judged, { reason, expired, blockedKeys, dryRun });
    if (dryRun) return outcome;
    const isNews = changing.length > 0 || blockedKeys.length > 0 || lineages.length > 0;
    const made = isNews
      ? await record(authority, caller, { target, changing, reason, blockedKeys, lineages, identity, now })
      : [];
    return { ...outcome, crls: await listingCrls(authority, judged, made) };
  };
  return inPublicationTurn(authority, () => onFreshBasis(decideAndRecord));
}

type Judged = readonly { readonly leaf: CertificateRow; readonly change: Revoked["outcome"] }[];

async function tell(
  authority: Authority,
  judged: Judged,
  facts: Pick<RevocationOutcome, "expired" | "blockedKeys" | "dryRun"> & { readonly reason: RevocationReason },
): Promise<RevocationOutcome> {
  const { reason, ...rest } = facts;
  const placesOf = whereabouts(authority.store);
  const revoked: Revoked[] = [];
  for (const { leaf, change } of judged.slice(0, maxTold)) {
    const { serial, identity, notAfter } = leaf;
    revoked.push({ serial, identity, reason, outcome: change, notAfter, places: await placesOf(leaf) });
  }
  return { revoked, total: judged.length, ...rest, crls: [] };
}

/** What was revoked before is on a CRL already, which need not be the newest: a host may hold that one and be right. */
async function listingCrls(
  { store }: Authority,
  judged: Judged,
  made: readonly CrlRecord[],
): Promise<readonly ListingCrl[]> {
  const numbers = new Map<string, number | null>();
  for (const { leaf, change } of judged) {
    const { issuerId } = leaf;
    const ofAct = made.find((crl) => crl.issuerId === issuerId)?.number ?? null;
    const number = change === "revoked" ? ofAct : await store.findListing(issuerId, leaf.serial);
    const before = numbers.get(issuerId);
    const isKnown = number !== null && before !== null;
    numbers.set(issuerId, isKnown ? Math.max(number, before ?? 0) : null);
  }
  return [...numbers].map(([issuer, number]) => ({ issuer, number }));
}

interface Act {
  readonly target: RevocationTarget;
  readonly changing: readonly CertificateRow[];
  readonly reason: RevocationReason;
  readonly blockedKeys: readonly string[];
  readonly lineages: readonly string[];
  /** Whose keys and lineages these are; null when they are of several, or nobody's. */
  readonly identity: string | null;
  readonly now: number;
}

/** @returns the CRLs that were made with it */
async function record(authority: Authority, caller: Caller, act: Act): Promise<readonly CrlRecord[]> {
  const { target, changing, reason, now } = act;
  const records: RevocationRecord[] = changing.map((leaf) => ({
    issuerId: leaf.issuerId,
    serial: leaf.serial,
    reason,
    // A final reason after a hold, or a compromise found later, keeps the day it stopped being good (RFC 5280 §5.3.1).
    revokedAt: leaf.revokedAt ?? now,
    notAfter: leaf.notAfter,
  }));
  const made = await commitWithNextCrls(authority, { add: records }, async (crls) => {
    await authority.store.revoke({
      records,
      ...("serial" in target ? {} : { allOf: target }),
      basis: new Map(changing.map((leaf) => [leaf.serial, leaf.reason as RevocationReason | null])),
      blockKeys: act.blockedKeys,
      endLineages: act.lineages,
      crls,
      audit: entriesOf(caller, act, crls),
    });
    return crls;
  });
  turnAway(authority, changing);
  for (const revoked of records) authority.events.revoked(revoked);
  return made;
}

/** A row for each leaf, with the number of the CRL that lists it first, and for what else was done. */
function entriesOf(caller: Caller, act: Act, crls: readonly CrlRecord[]): readonly AuditEntry[] {
  const { changing, identity, reason, now } = act;
  return [
    ...changing.map((leaf) =>
      auditEntry(caller, now, "certificate.revoked", leaf.serial, {
        identity: leaf.identity,
        lineage: leaf.lineage,
        reason,
        before: leaf.reason,
        crl: crls.find((crl) => crl.issuerId === leaf.issuerId)?.number ?? null,
      }),
    ),
    ...act.lineages.map((lineage) => auditEntry(caller, now, "lineage.revoked", lineage, { identity, reason })),
    ...act.blockedKeys.map((key) => auditEntry(caller, now, "key.blocked", key, { identity, reason })),
  ];
}

/** After the commit, whoever holds these leaves has no connection any more; a held poll is told why. */
export function turnAway(
  { connections, feed, presence }: Authority,
  leaves: readonly { readonly serial: string; readonly identity: string }[],
): void {
  for (const { identity } of leaves) {
    feed.announceTo(identity);
    presence.left(identity);
  }
  connections.end(leaves.map(({ serial }) => serial));
}

function keysToBlock(
  target: RevocationTarget,
  leaves: readonly CertificateRow[],
  reason: RevocationReason,
): readonly string[] {
  const keys = new Set<string>();
  if ("lineage" in target || reason === "keyCompromise") for (const leaf of leaves) keys.add(leaf.key);
  if ("key" in target && reason === "keyCompromise") keys.add(target.key);
  return [...keys];
}

interface Targets {
  readonly leaves: readonly CertificateRow[];
  readonly expired: number;
}

async function findTargets(authority: Authority, target: RevocationTarget, now: number): Promise<Targets> {
  const { store } = authority;
  if ("serial" in target) {
    const leaf = await store.findCertificate(target.serial);
    if (leaf === null) throw new AppError("serial-unknown", `No certificate has serial ${target.serial}`);
    return { leaves: [leaf], expired: 0 };
  }
  if ("lineage" in target) {
    if ((await store.findLineage(target.lineage)) === null)
      throw new AppError("not-found", `There is no lineage ${target.lineage}`);
    // All generations: their keys are blocked even when the leaves have expired.
    const leaves = await store.listLineageCertificates(target.lineage);
    return { leaves, expired: leaves.filter((leaf) => leaf.notAfter <= now).length };
  }
  if ("identity" in target) {
    if ((await store.findIdentity(target.identity)) === null)
      throw new AppError("not-found", `There is no identity ${target.identity}`);
    return allPages(
      (cursor) => store.listCertificates({ identity: target.identity, now, limit: 1000, ...cursor }),
      now,
    );
  }
  if ((await store.findKey(target.key)) === null)
    throw new AppError("not-found", `No identity ever held key ${target.key}`);
  return allPages((cursor) => store.listCertificates({ key: target.key, now, limit: 1000, ...cursor }), now);
}

type ListPage = (cursor: {
  cursor?: string;
}) => Promise<{ items: readonly CertificateRow[]; nextCursor: string | null }>;

async function allPages(list: ListPage, now: number): Promise<Targets> {
  const found: CertificateRow[] = [];
  let expired = 0;
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<ListPage>> = await list(cursor === null ? {} : { cursor });
    const inDate = page.items.filter((leaf) => leaf.notAfter > now);
    expired += page.items.length - inDate.length;
    found.push(...inDate);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return { leaves: found, expired };
}

function judge(leaf: CertificateRow, reason: RevocationReason, bySerial: boolean): Revoked["outcome"] {
  const isRevoked = leaf.revokedAt !== null;
  if (!isRevoked) return "revoked";
  if (leaf.reason === reason) return "unchanged";
  if (leaf.reason === "certificateHold" || reason === "keyCompromise") return "revoked";
  if (!bySerial) return "unchanged";
  throw new AppError(
    "already-revoked",
    `${leaf.serial} is already revoked (${leaf.reason}); only keyCompromise may follow`,
  );
}

/**
 * Lifts a hold; any other revocation is final.
 * @returns the CRL that no longer lists it
 * @throws AppError serial-unknown, conflict (it is not held), not-permitted
 */
export async function releaseHold(
  authority: Authority,
  caller: Caller,
  serial: string,
): Promise<readonly ListingCrl[]> {
  caller.target = serial;
  const crls = await onFreshBasis(async () => {
    const now = authority.clock.now();
    const leaf = await authority.store.findCertificate(serial);
    if (leaf === null) throw new AppError("serial-unknown", `No certificate has serial ${serial}`);
    await requireTouch(authority, caller, leaf.identity);
    if (leaf.state !== "held")
      throw new AppError("conflict", `${serial} is ${leaf.state}, not held; only a hold can be lifted`);
    return withNextCrls(authority, { lift: { issuerId: leaf.issuerId, serial } }, async (made) => {
      const number = made[0]?.number ?? null;
      const facts = { identity: leaf.identity, crl: number };
      const audit = [auditEntry(caller, now, "certificate.hold-released", serial, facts)];
      await authority.store.releaseHold({ serial, at: now, crls: made, audit });
      return [{ issuer: leaf.issuerId, number }];
    });
  });
  authority.events.acted("certificate.hold-released", caller, { serial });
  return crls;
}
