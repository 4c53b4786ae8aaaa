/** Revocation by serial, lineage, identity or key; holds and their release. Refused from the very next request, on the CRL in the same transaction. */
import { AppError } from "@newleaf/shared/problems";
import { revocationReasons } from "@newleaf/shared/api";
import type { CertificateRow } from "../store/certificates.ts";
import type { RevocationReason, RevocationRecord } from "../store/revocations.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "./authority.ts";
import { requireTouch } from "./permissions.ts";
import { commitWithNextCrls, inPublicationTurn, withNextCrls } from "./publish-crl.ts";

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
}

export interface RevocationOutcome {
  readonly revoked: readonly Revoked[];
  readonly blockedKeys: readonly string[];
  readonly dryRun: boolean;
}

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
    const leaves = await findTargets(authority, target, now);
    const touched = new Set(leaves.map((leaf) => leaf.identity));
    // A key without a leaf in date is somebody's all the same, and may be blocked.
    if ("key" in target) touched.add((await authority.store.findKey(target.key))?.identity ?? "");
    for (const identity of touched) await requireTouch(authority, caller, identity);
    const judged = leaves
      .filter((leaf) => "serial" in target || leaf.notAfter > now)
      .map((leaf) => ({ leaf, change: judge(leaf, reason, "serial" in target) }));
    const changing = judged.filter(({ change }) => change === "revoked").map(({ leaf }) => leaf);
    const lineages = "lineage" in target ? [target.lineage] : [];
    const blockedKeys = keysToBlock(target, leaves, reason);
    const outcome: RevocationOutcome = {
      revoked: judged.map(({ leaf, change }) => ({
        serial: leaf.serial,
        identity: leaf.identity,
        reason,
        outcome: change,
      })),
      blockedKeys,
      dryRun,
    };
    if (dryRun || (changing.length === 0 && blockedKeys.length === 0 && lineages.length === 0)) return outcome;
    await record(authority, caller, { target, changing, reason, blockedKeys, lineages, now });
    return outcome;
  };
  return inPublicationTurn(authority, () => onFreshBasis(decideAndRecord));
}

interface Act {
  readonly target: RevocationTarget;
  readonly changing: readonly CertificateRow[];
  readonly reason: RevocationReason;
  readonly blockedKeys: readonly string[];
  readonly lineages: readonly string[];
  readonly now: number;
}

async function record(authority: Authority, caller: Caller, act: Act): Promise<void> {
  const { target, changing, reason, now } = act;
  const records: RevocationRecord[] = changing.map((leaf) => ({
    issuerId: leaf.issuerId,
    serial: leaf.serial,
    reason,
    // A final reason after a hold, or a compromise found later, keeps the day it stopped being good (RFC 5280 §5.3.1).
    revokedAt: leaf.revokedAt ?? now,
    notAfter: leaf.notAfter,
  }));
  const audit = changing.map((leaf) =>
    auditEntry(caller, now, "certificate.revoked", leaf.serial, {
      identity: leaf.identity,
      lineage: leaf.lineage,
      reason,
      before: leaf.reason,
    }),
  );
  for (const lineage of act.lineages) audit.push(auditEntry(caller, now, "lineage.revoked", lineage, { reason }));
  for (const key of act.blockedKeys) audit.push(auditEntry(caller, now, "key.blocked", key, { reason }));
  await commitWithNextCrls(authority, { add: records }, (crls) =>
    authority.store.revoke({
      records,
      ...("serial" in target ? {} : { allOf: target }),
      basis: new Map(changing.map((leaf) => [leaf.serial, leaf.reason as RevocationReason | null])),
      blockKeys: act.blockedKeys,
      endLineages: act.lineages,
      crls,
      audit,
    }),
  );
  for (const revoked of records) authority.events.revoked(revoked);
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

async function findTargets(
  authority: Authority,
  target: RevocationTarget,
  now: number,
): Promise<readonly CertificateRow[]> {
  const { store } = authority;
  if ("serial" in target) {
    const leaf = await store.findCertificate(target.serial);
    if (leaf === null) throw new AppError("serial-unknown", `No certificate has serial ${target.serial}`);
    return [leaf];
  }
  if ("lineage" in target) {
    if ((await store.findLineage(target.lineage)) === null)
      throw new AppError("not-found", `There is no lineage ${target.lineage}`);
    // All generations: their keys are blocked even when the leaves have expired.
    return store.listLineageCertificates(target.lineage);
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

async function allPages(list: ListPage, now: number): Promise<readonly CertificateRow[]> {
  const found: CertificateRow[] = [];
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<ListPage>> = await list(cursor === null ? {} : { cursor });
    found.push(...page.items.filter((leaf) => leaf.notAfter > now));
    cursor = page.nextCursor;
  } while (cursor !== null);
  return found;
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
 * @throws AppError serial-unknown, conflict (it is not held), not-permitted
 */
export async function releaseHold(authority: Authority, caller: Caller, serial: string): Promise<void> {
  caller.target = serial;
  await onFreshBasis(async () => {
    const now = authority.clock.now();
    const leaf = await authority.store.findCertificate(serial);
    if (leaf === null) throw new AppError("serial-unknown", `No certificate has serial ${serial}`);
    await requireTouch(authority, caller, leaf.identity);
    if (leaf.state !== "held")
      throw new AppError("conflict", `${serial} is ${leaf.state}, not held; only a hold can be lifted`);
    const audit = [auditEntry(caller, now, "certificate.hold-released", serial, { identity: leaf.identity })];
    await withNextCrls(authority, { lift: { issuerId: leaf.issuerId, serial } }, (crls) =>
      authority.store.releaseHold({ serial, at: now, crls, audit }),
    );
  });
  authority.events.acted("certificate.hold-released", caller, { serial });
}
