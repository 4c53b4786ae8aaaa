import { AppError } from "@newleaf/shared/problems";
import type { AuditEntry } from "../audit.ts";
import type { CrlRecord } from "../issuers.ts";
import type { RestoreAct, RestoreRow, RestoreStore, Voided } from "../restores.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { keyBlocker } from "./keys.ts";
import { leafWithdrawer, revocationWriter } from "./revocations.ts";

interface StoredRestore {
  readonly epoch: number;
  readonly at: number;
  readonly complete: 0 | 1;
  readonly detail: string;
}

export function restoreReads(database: Connection): Pick<RestoreStore, "latestRestore" | "nextCrlNumber"> {
  const latest = prepare<[number, number], StoredRestore>(
    database,
    "SELECT no AS epoch, at, complete, detail FROM restores WHERE complete IN (?, ?) ORDER BY no DESC LIMIT 1",
  );
  const nextNumber = crlNumberer(database);
  return {
    async latestRestore(only) {
      const row = only === undefined ? latest.get(0, 1) : latest.get(Number(only.complete), Number(only.complete));
      return row === undefined ? null : toRestore(row);
    },
    nextCrlNumber: async (issuerId) => nextNumber(issuerId),
  };
}

/** What the issuer's next CRL is numbered: one above the newest there is and above its floor. */
export function crlNumberer(database: Connection): (issuerId: string) => number {
  const highest = prepare<[string, string], number>(
    database,
    `SELECT max(coalesce((SELECT max(number) FROM crls WHERE issuer_id = ?), 0),
                coalesce((SELECT number FROM crl_floors WHERE issuer_id = ?), 0))`,
  ).pluck();
  return (issuerId) => (highest.get(issuerId, issuerId) ?? 0) + 1;
}

export function restoreWrites(context: WriteContext): Pick<Writes, "recordRestore"> {
  const { database } = context;
  const insert = prepare(database, "INSERT INTO restores (at, complete, detail) VALUES (?, ?, ?)");
  const putRevocation = revocationWriter(database);
  const withdraw = leafWithdrawer(database);
  const blockKey = keyBlocker(database);
  const voidOpen = voider(database);
  const takeCrl = foreignCrlTaker(database);
  // It was open when the backup was made: nobody may adopt it now.
  const settleUnvouched = prepare(
    database,
    `UPDATE unvouched SET state = 'revoked', decided_by = ?, decided_at = ?
     WHERE issuer_id = ? AND serial = ? AND state = 'open'`,
  );
  const raiseBundle = bundleRaiser(database);
  const raise = prepare(
    database,
    `INSERT INTO crl_floors (issuer_id, number) VALUES (?, ?)
     ON CONFLICT (issuer_id) DO UPDATE SET number = max(number, excluded.number)`,
  );
  // Whatever its newest CRL says, the next start makes one that lists everything. The root's is made at its ceremonies.
  const stale = prepare(
    database,
    "UPDATE issuers SET crl_stale_since = max(coalesce(crl_stale_since, 0), ?) WHERE kind = 'intermediate'",
  );
  // It no longer follows from any: with its old place it would pass for a copy that lacks the journal's end.
  const leaveJournal = prepare(database, "DELETE FROM journal");
  return {
    recordRestore(act: RestoreAct) {
      for (const record of act.revocations) {
        putRevocation(record, act.crls);
        withdraw(record);
        settleUnvouched.run(act.audit.actor, act.at, record.issuerId, record.serial);
      }
      for (const key of act.blockKeys) blockKey(key, act.at);
      const voided = voidOpen(act);
      for (const crl of act.crls) takeCrl(crl);
      for (const { issuerId, number } of act.crlFloors) raise.run(issuerId, number);
      raiseBundle(act.bundleVersion, act.at);
      stale.run(act.at);
      if (!act.complete) leaveJournal.run();
      const detail = { ...act.detail, voided };
      insert.run(act.at, act.complete ? 1 : 0, JSON.stringify(detail));
      const entry: AuditEntry = { ...act.audit, detail };
      context.audit.append([entry]);
      return voided;
    },
  };
}

/** What was open when the backup was made may have been spent since, or was handed to somebody who is no longer meant to have it. */
function voider(database: Connection): (act: RestoreAct) => Voided {
  const tokens = prepare(
    database,
    "UPDATE tokens SET revoked_at = ? WHERE spent_at IS NULL AND revoked_at IS NULL AND expires_at > ?",
  );
  // Expired, not denied: the host may ask again at once.
  const requests = prepare(database, "UPDATE requests SET expires_at = ? WHERE state = 'pending' AND expires_at > ?");
  const grants = prepare(database, "UPDATE grants SET expires_at = ? WHERE spent_at IS NULL AND expires_at > ?");
  const keys = prepare(database, "UPDATE keys SET armed = 0 WHERE armed = 1");
  return ({ at, complete }) => ({
    tokens: tokens.run(at, at).changes,
    requests: requests.run(at, at).changes,
    grants: grants.run(at, at).changes,
    armedKeys: complete ? 0 : keys.run().changes,
  });
}

/** A CRL that was made elsewhere takes the place of an older one; its number need not follow. */
function foreignCrlTaker(database: Connection): (crl: CrlRecord) => void {
  const put = prepare(
    database,
    `INSERT INTO crls (issuer_id, number, this_update, next_update, der) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (issuer_id, number) DO NOTHING`,
  );
  // Without it nobody would say that the parent has taken an issuer back which this restore put in force again.
  const settle = prepare(database, "UPDATE revocations SET crl_number = ? WHERE issuer_id = ? AND crl_number IS NULL");
  return (crl) => {
    put.run(crl.issuerId, crl.number, crl.thisUpdate, crl.nextUpdate, crl.der);
    settle.run(crl.number, crl.issuerId);
  };
}

function bundleRaiser(database: Connection): (version: number, at: number) => void {
  const repeat = prepare(
    database,
    `INSERT INTO bundles (version, created_at, roots, intermediates, cross_certificates)
     SELECT ?, ?, roots, intermediates, cross_certificates FROM bundles ORDER BY version DESC LIMIT 1`,
  );
  const newest = prepare<[], number>(database, "SELECT max(version) FROM bundles").pluck();
  return (version, at) => {
    if (version <= (newest.get() ?? 0)) {
      throw new AppError("internal", `The bundle's version must rise with a restore; ${version} would not.`);
    }
    repeat.run(version, at);
  };
}

function toRestore(row: StoredRestore): RestoreRow {
  return { ...row, complete: row.complete === 1, detail: JSON.parse(row.detail) as Record<string, unknown> };
}
