import { AppError } from "@newleaf/shared/problems";
import type { CrlRecord } from "../issuers.ts";
import type {
  RevocationAct,
  RevocationReason,
  RevocationRecord,
  RevocationStore,
  UnrevokedLeaf,
} from "../revocations.ts";
import { StaleBasis } from "../store.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { crlWriter } from "./issuers.ts";
import { keyBlocker, keyReads } from "./keys.ts";

export function revocationReads(database: Connection): Omit<RevocationStore, "revoke" | "releaseHold"> {
  const { isKeyBlocked } = keyReads(database);
  const ofIssuer = prepare<[string, string, number], RevocationRecord>(
    database,
    `SELECT issuer_id AS issuerId, serial, reason, revoked_at AS revokedAt, not_after AS notAfter FROM revocations
     WHERE issuer_id = ? AND not_after >=
       min(coalesce((SELECT this_update FROM crls WHERE issuer_id = ? ORDER BY number DESC LIMIT 1), 0), ?)
     ORDER BY serial`,
  );
  const stale = prepare<[], string>(
    database,
    "SELECT id FROM issuers WHERE crl_stale_since IS NOT NULL ORDER BY no",
  ).pluck();
  const listing = prepare<[string, string], number | null>(
    database,
    "SELECT crl_number FROM revocations WHERE issuer_id = ? AND serial = ?",
  ).pluck();
  const leaves = (state: string, index: string, rest: string) =>
    prepare<(string | number)[], UnrevokedLeaf>(
      database,
      `SELECT serial, identity, lineage, fingerprint, not_after AS notAfter, revoked_at AS revokedAt, reason
       FROM certificates INDEXED BY ${index} WHERE ${state} AND issuer_id = ? AND not_after >= ? ${rest}`,
    );
  const count = (state: string, index: string) =>
    prepare<[string, number], number>(
      database,
      `SELECT count(*) FROM certificates INDEXED BY ${index} WHERE ${state} AND issuer_id = ? AND not_after >= ?`,
    ).pluck();
  const byExpiry = "ORDER BY not_after LIMIT ?";
  // Each of these indexes is narrow and holds what is alive only; the issuer is looked up in the rows it names.
  const isLive = "state IN ('pending', 'current')";
  const live = leaves(isLive, "certificates_live_by_expiry", byExpiry);
  const superseded = leaves("state = 'superseded'", "certificates_superseded", byExpiry);
  const heldOf = leaves("state = 'held'", "certificates_withdrawn", "");
  const countLive = count(isLive, "certificates_live_by_expiry");
  const countSuperseded = count("state = 'superseded'", "certificates_superseded");
  const countHeld = count("state = 'held'", "certificates_withdrawn");
  return {
    isKeyBlocked,
    listRevocations: async (issuerId, now = Number.MAX_SAFE_INTEGER) => ofIssuer.all(issuerId, issuerId, now),
    listStaleCrlIssuers: async () => stale.all(),
    findListing: async (issuerId, serial) => listing.get(issuerId, serial) ?? null,
    async listUnrevoked({ issuerId, now, from = now, limit }) {
      const held = heldOf.all(issuerId, from);
      return [...held, ...live.all(issuerId, from, limit), ...superseded.all(issuerId, from, limit)]
        .toSorted((a, b) => a.notAfter - b.notAfter)
        .slice(0, limit);
    },
    async countUnrevoked(issuerId, now) {
      return [countHeld, countLive, countSuperseded].reduce((sum, count) => sum + (count.get(issuerId, now) ?? 0), 0);
    },
  };
}

export function revocationWrites(context: WriteContext): Pick<Writes, "revoke" | "releaseHold"> {
  const { database } = context;
  const checkBasis = basisChecker(database);
  const putRevocation = revocationWriter(database);
  const withdraw = leafWithdrawer(database);
  const requireNoneLeft = remainderChecker(database);
  const blockKey = keyBlocker(database);
  const recordCrl = crlWriter(database);
  const endLineage = prepare(database, "UPDATE lineages SET state = 'ended' WHERE id = ? AND state <> 'ended'");
  const lift = prepare<[string], { issuerId: string }>(
    database,
    `UPDATE certificates SET state = state_before_hold, state_before_hold = NULL, revoked_at = NULL, reason = NULL
     WHERE serial = ? AND state = 'held' RETURNING issuer_id AS issuerId`,
  );
  const drop = prepare(
    database,
    "DELETE FROM revocations WHERE issuer_id = ? AND serial = ? AND reason = 'certificateHold'",
  );
  const markStale = staleMarker(database);
  return {
    revoke(act) {
      const at = actTime(act);
      for (const record of act.records) {
        checkBasis(record, act.basis.get(record.serial) ?? null);
        putRevocation(record, act.crls);
        withdraw(record);
      }
      if (act.allOf !== undefined) requireNoneLeft(act.allOf, at);
      for (const key of act.blockKeys) blockKey(key, at);
      for (const lineage of act.endLineages) endLineage.run(lineage);
      for (const crl of act.crls) recordCrl(crl);
      context.audit.append(act.audit);
    },
    releaseHold(release) {
      const leaf = lift.get(release.serial);
      if (leaf === undefined) throw new StaleBasis(`Certificate ${release.serial} is not held any more.`);
      drop.run(leaf.issuerId, release.serial);
      markStale(leaf.issuerId, release.at, release.crls);
      for (const crl of release.crls) recordCrl(crl);
      context.audit.append(release.audit);
    },
  };
}

/** Puts a revocation on the list its issuer's next CRL is made from. `crls` are those of the same act, which carry it already. */
export function revocationWriter(database: Connection): (record: RevocationRecord, crls: readonly CrlRecord[]) => void {
  const put = prepare(
    database,
    `INSERT INTO revocations (issuer_id, serial, reason, revoked_at, not_after) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (issuer_id, serial) DO UPDATE SET reason = excluded.reason, revoked_at = excluded.revoked_at, crl_number = NULL`,
  );
  const markStale = staleMarker(database);
  return (record, crls) => {
    put.run(record.issuerId, record.serial, record.reason, record.revokedAt, record.notAfter);
    markStale(record.issuerId, record.revokedAt, crls);
  };
}

/** Notes that the issuer's newest CRL no longer says what is so, unless this act brings one that does. */
function staleMarker(database: Connection): (issuerId: string, at: number, crls: readonly CrlRecord[]) => void {
  const mark = prepare(
    database,
    "UPDATE issuers SET crl_stale_since = max(coalesce(crl_stale_since, 0), ?) WHERE id = ?",
  );
  return (issuerId, at, crls) => {
    if (!crls.some((crl) => crl.issuerId === issuerId)) mark.run(at, issuerId);
  };
}

function basisChecker(database: Connection): (record: RevocationRecord, basis: RevocationReason | null) => void {
  const reason = prepare<[string, string], RevocationReason>(
    database,
    "SELECT reason FROM revocations WHERE issuer_id = ? AND serial = ?",
  ).pluck();
  return (record, basis) => {
    const present = reason.get(record.issuerId, record.serial) ?? null;
    if (present !== basis) throw new StaleBasis(`The revocation of ${record.serial} changed after the decision.`);
    if (record.reason === "certificateHold" && present !== null && present !== "certificateHold") {
      throw new AppError("already-revoked", `Certificate ${record.serial} is revoked (${present}); it cannot be held.`);
    }
  };
}

/** A leaf that was issued after the decision slipped through: decide again, with it. */
function remainderChecker(database: Connection): (all: NonNullable<RevocationAct["allOf"]>, at: number) => void {
  const usable = "not_after > ? AND state IN ('pending', 'current', 'superseded')";
  const one = (scope: string) =>
    prepare<(string | number)[], number>(
      database,
      `SELECT 1 FROM certificates WHERE ${scope} AND ${usable} LIMIT 1`,
    ).pluck();
  const ofIdentity = one("identity = ?");
  const ofLineage = one("lineage = ?");
  // A key stands under one identity, whose index narrows the search.
  const ofKey = one("identity = (SELECT identity FROM keys WHERE fingerprint = ?) AND key_fingerprint = ?");
  return (all, at) => {
    const left =
      "identity" in all
        ? ofIdentity.get(all.identity, at)
        : "lineage" in all
          ? ofLineage.get(all.lineage, at)
          : ofKey.get(all.key, all.key, at);
    if (left !== undefined) throw new StaleBasis("A leaf was issued after it was decided what to revoke.");
  };
}

/** The leaf's own side. Serials that are no leaf of ours (a CA certificate's) are only on the list. */
export function leafWithdrawer(database: Connection): (record: RevocationRecord) => void {
  const hold = prepare(
    database,
    `UPDATE certificates SET state_before_hold = coalesce(state_before_hold, state), state = 'held', revoked_at = ?, reason = ?
     WHERE serial = ? AND issuer_id = ?`,
  );
  const revoke = prepare(
    database,
    `UPDATE certificates SET state_before_hold = NULL, state = 'revoked', revoked_at = ?, reason = ?
     WHERE serial = ? AND issuer_id = ?`,
  );
  return (record) => {
    const withdraw = record.reason === "certificateHold" ? hold : revoke;
    withdraw.run(record.revokedAt, record.reason, record.serial, record.issuerId);
  };
}

function actTime(act: RevocationAct): number {
  const at = act.audit[0]?.at ?? act.records[0]?.revokedAt;
  if (at === undefined)
    throw new AppError("internal", "An act of revoking needs an audit entry or a record to be dated by.");
  return at;
}
