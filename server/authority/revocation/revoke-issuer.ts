/**
 * Revocation of an issuing CA, in this order:
 *
 * 1. one transaction retires the issuer: from its commit on nothing is issued by it and none of its leaves is accepted here.
 * 2. its leaves are revoked in batches, each a transaction of its own between which other work gets its turn.
 * 3. its CRL is published once, with all of them.
 * 4. at a ceremony the parent's key puts the issuer itself on the parent's CRL (`newleaf ca crl`), which is imported (`import-crl.ts`).
 *
 * A crash after 1 is made good: whatever is left of 2 and 3 is done at the next start.
 */
import { issuerRevocationReasons } from "@newleaf/shared/api";
import { AppError } from "@newleaf/shared/problems";
import { readIssuerCertificate } from "../../ca/issuer.ts";
import type { IssuerRow } from "../../store/issuers.ts";
import type { RevocationReason, UnrevokedLeaf } from "../../store/revocations.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { requireAct } from "../permissions.ts";
import { requireIssuer } from "../publications.ts";
import { inPublicationTurn, publishCrl } from "./publish-crl.ts";
import { maxTold, type RevocationOutcome, type Revoked, turnAway } from "./revoke.ts";
import { whereabouts } from "./whereabouts.ts";

/** Rows that one transaction changes: some 20 ms of the writer's time. */
const batchSize = 250;

const longestAnswer = 20_000;

/** What is still open after an issuer was revoked here, and the way to end it. */
export interface IssuerStep {
  readonly issuer: string;
  readonly parent: string;
  /** The parent's newest CRL lists it. */
  readonly listedByParent: boolean;
  /** Leaves still to be revoked one by one and listed, while none of them is accepted here any more. */
  readonly unlistedLeaves: number;
  /** Other issuers that new leaves can come from. */
  readonly otherIssuers: number;
  /** The command that comes next; null when nothing is open. */
  readonly next: string | null;
}

/**
 * Revokes an issuing CA and every unexpired leaf under it. The same reason again does what is left to do.
 * @throws AppError not-permitted, not-found, reason-invalid, conflict (a root), already-revoked (for another reason)
 */
export async function revokeIssuer(
  authority: Authority,
  caller: Caller,
  id: string,
  reason: RevocationReason,
  { dryRun = false }: { dryRun?: boolean } = {},
): Promise<RevocationOutcome & { readonly issuer: IssuerStep }> {
  caller.target = id;
  requireAct(caller, "issuers.revoke");
  const row = requireIssuer(authority, id);
  if (row.kind === "root")
    throw new AppError("conflict", `${id} is a root: no CRL can take it back; verifiers must stop trusting it`);
  if (!isIssuerReason(reason))
    throw new AppError(
      "reason-invalid",
      `A CA is not revoked for ${reason}; use one of ${issuerRevocationReasons.join(", ")}`,
    );
  if (row.revokedAt != null && row.revocationReason !== reason)
    throw new AppError("already-revoked", `${id} is already revoked (${row.revocationReason ?? "unspecified"})`);
  const { store, clock } = authority;
  const now = clock.now();
  const total = await store.countUnrevoked(id, now);
  const revoked = await tell(authority, id, reason, total === 0 ? 0 : maxTold);
  const outcome = { revoked, total, expired: 0, blockedKeys: [], dryRun, crls: [] };
  if (dryRun) return { ...outcome, issuer: await openStep(authority, row) };

  await retire(authority, caller, row, { reason, now, total });
  remember(authority).add(id);
  const number = await withinPatience(finish(authority, caller, id, reason));
  return {
    ...outcome,
    crls: [{ issuer: id, number }],
    issuer: await openStep(authority, requireIssuer(authority, id)),
  };
}

/** What an operator who revoked an issuer has not finished, and issuers that a parent's CRL lists though they still issue here. */
export async function openIssuerSteps(authority: Authority): Promise<readonly IssuerStep[]> {
  const steps: IssuerStep[] = [];
  for (const row of authority.issuers.rows) {
    if (row.kind === "root" || row.notAfter <= authority.clock.now()) continue;
    const step = await openStep(authority, row);
    const isInForce = row.state === "active" || row.state === "draining";
    if ((row.revokedAt != null && !step.listedByParent) || (isInForce && step.listedByParent)) steps.push(step);
  }
  return steps;
}

/** Revokes what a crash or a store that could not write left of an issuer's leaves. To be called again and again; costs nothing when nothing is open. */
export async function finishRevokedIssuers(authority: Authority, caller: Caller): Promise<void> {
  for (const id of remember(authority)) {
    await finish(authority, caller, id, requireIssuer(authority, id).revocationReason ?? "unspecified");
  }
}

const unfinished = new WeakMap<Authority, Set<string>>();
/** By issuer id, while its leaves are being revoked: whoever asks again waits for the same work. Resolves to the number of the CRL. */
const running = new WeakMap<Authority, Map<string, Promise<number | null>>>();

/** At first every revoked issuer: who knows what the last process left. */
function remember(authority: Authority): Set<string> {
  const known = unfinished.get(authority);
  if (known !== undefined) return known;
  const revoked = new Set(authority.issuers.rows.flatMap((row) => (row.revokedAt == null ? [] : [row.id])));
  unfinished.set(authority, revoked);
  return revoked;
}

interface Retirement {
  readonly reason: RevocationReason;
  readonly now: number;
  readonly total: number;
}

async function retire(authority: Authority, caller: Caller, row: IssuerRow, act: Retirement): Promise<void> {
  if (row.revokedAt != null) return;
  const { reason, now, total } = act;
  const { serial } = readIssuerCertificate(row.certificate);
  const detail = { reason, serial, parent: row.parent, leaves: total };
  const audit = [auditEntry(caller, now, "issuer.revoked", row.id, detail)];
  await authority.store.revokeIssuer({ issuerId: row.id, reason, at: now, audit });
  authority.issuers.rows = await authority.store.listIssuers();
  authority.events.acted("issuer.revoked", caller, { issuer: row.id, ...detail });
}

/** @returns number of the CRL that lists all its leaves; null when its key is not at hand */
function finish(authority: Authority, caller: Caller, id: string, reason: RevocationReason): Promise<number | null> {
  const ofAuthority = running.get(authority) ?? new Map<string, Promise<number | null>>();
  running.set(authority, ofAuthority);
  const begun = ofAuthority.get(id);
  if (begun !== undefined) return begun;
  const work = revokeAndList(authority, caller, id, reason).finally(() => ofAuthority.delete(id));
  ofAuthority.set(id, work);
  return work;
}

async function revokeAndList(
  authority: Authority,
  caller: Caller,
  id: string,
  reason: RevocationReason,
): Promise<number | null> {
  const { store, issuers } = authority;
  const done = await revokeLeaves(authority, caller, id, leafReason(reason));
  const isListed = done === 0 && !(await store.listStaleCrlIssuers()).includes(id);
  let number = issuers.crls.get(id)?.number ?? null;
  if (!isListed && issuers.signers.has(id)) ({ number } = await publishCrl(authority, caller, id, "issuer revoked"));
  remember(authority).delete(id);
  return issuers.signers.has(id) ? number : null;
}

/** Who has revoked a hundred thousand leaves is answered before his request times out; the work goes on, and asking again waits for it. */
async function withinPatience(work: Promise<number | null>): Promise<number | null> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), longestAnswer);
  });
  try {
    return await Promise.race([work, patience]);
  } finally {
    clearTimeout(timer);
    // What it fails with later is tried again by the job that finishes revoked issuers.
    work.catch(() => undefined);
  }
}

async function revokeLeaves(
  authority: Authority,
  caller: Caller,
  issuerId: string,
  reason: RevocationReason,
): Promise<number> {
  let done = 0;
  for (let from: number | undefined; ;) {
    const batch = await inPublicationTurn(authority, () =>
      onFreshBasis(() => revokeBatch(authority, caller, { issuerId, reason, from })),
    );
    const last = batch.at(-1);
    if (last === undefined) return done;
    done += batch.length;
    from = last.notAfter;
  }
}

interface Batch {
  readonly issuerId: string;
  readonly reason: RevocationReason;
  readonly from: number | undefined;
}

async function revokeBatch(authority: Authority, caller: Caller, batch: Batch): Promise<readonly UnrevokedLeaf[]> {
  const { issuerId, reason, from } = batch;
  const now = authority.clock.now();
  const request = { issuerId, now, limit: batchSize, ...(from === undefined ? {} : { from }) };
  const leaves = await authority.store.listUnrevoked(request);
  if (leaves.length === 0) return leaves;
  const records = leaves.map(({ serial, revokedAt, notAfter }) => ({
    issuerId,
    serial,
    reason,
    revokedAt: revokedAt ?? now,
    notAfter,
  }));
  await authority.store.revoke({
    records,
    basis: new Map(leaves.map((leaf) => [leaf.serial, leaf.reason])),
    blockKeys: [],
    endLineages: [],
    crls: [],
    audit: leaves.map(({ serial, identity, lineage, reason: before }) =>
      auditEntry(caller, now, "certificate.revoked", serial, { identity, lineage, reason, before, issuer: issuerId }),
    ),
  });
  turnAway(authority, leaves);
  for (const record of records) authority.events.revoked(record);
  return leaves;
}

function isIssuerReason(reason: string): boolean {
  return issuerRevocationReasons.some((candidate) => candidate === reason);
}

/** cACompromise is a reason of CA certificates (RFC 5280 §5.3.1), and the keys of the leaves are not what was compromised. */
function leafReason(reason: RevocationReason): RevocationReason {
  return reason === "cACompromise" || reason === "keyCompromise" ? "unspecified" : reason;
}

async function tell(
  { store, clock }: Authority,
  issuerId: string,
  reason: RevocationReason,
  limit: number,
): Promise<readonly Revoked[]> {
  const placesOf = whereabouts(store);
  const leaves = limit === 0 ? [] : await store.listUnrevoked({ issuerId, now: clock.now(), limit });
  const told: Revoked[] = [];
  for (const leaf of leaves) {
    const { serial, identity, notAfter } = leaf;
    const places = await placesOf(leaf);
    told.push({ serial, identity, notAfter, reason: leafReason(reason), outcome: "revoked", places });
  }
  return told;
}

async function openStep(authority: Authority, row: IssuerRow): Promise<IssuerStep> {
  const { store, issuers, clock } = authority;
  const { serial } = readIssuerCertificate(row.certificate);
  const listedByParent = (await store.findListing(row.parent, serial)) !== null;
  const others = issuers.rows.filter(
    (other) => other.kind === "intermediate" && other.id !== row.id && other.state === "active",
  );
  const ceremony = `newleaf ca crl --root-key root.key.pem --root root.pem --previous-crl ${row.parent}.crl --revoke ${row.id}.crt --out next.crl`;
  const revokeHere = `newleaf cert revoke --issuer ${row.id} --reason cACompromise`;
  const next = listedByParent ? (row.revokedAt == null ? revokeHere : null) : ceremony;
  const isBusy = running.get(authority)?.has(row.id) === true;
  const unlistedLeaves = isBusy ? await store.countUnrevoked(row.id, clock.now()) : 0;
  return { issuer: row.id, parent: row.parent, listedByParent, unlistedLeaves, otherIssuers: others.length, next };
}
