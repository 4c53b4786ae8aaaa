import { AppError } from "@newleaf/shared/problems";
import type { Statement } from "better-sqlite3";
import type { BundleRow, CrlRecord, Foundation, IssuerRow, IssuerStore } from "../issuers.ts";
import type { RevocationReason } from "../revocations.ts";
import { StaleBasis } from "../store.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { identityAdder } from "./identities.ts";
import { crlNumberer } from "./restores.ts";
import { leafWithdrawer } from "./revocations.ts";

interface StoredBundle {
  readonly version: number;
  readonly createdAt: number;
  readonly roots: string;
  readonly intermediates: string;
  readonly crossCertificates: string;
}

/** CRLs kept per issuer: the one in force and, for whoever still fetches by its ETag, the one before. */
const keptCrls = 2;

export function issuerReads(database: Connection): Pick<IssuerStore, "listIssuers" | "currentBundle" | "latestCrl"> {
  const issuers = prepare<[], IssuerRow>(
    database,
    `SELECT id, kind, parent, state, certificate, twin, not_before AS notBefore, not_after AS notAfter,
       revoked_at AS revokedAt, revocation_reason AS revocationReason FROM issuers ORDER BY no`,
  );
  const bundle = prepare<[], StoredBundle>(
    database,
    `SELECT version, created_at AS createdAt, roots, intermediates, cross_certificates AS crossCertificates
     FROM bundles ORDER BY version DESC LIMIT 1`,
  );
  const crl = prepare<[string], CrlRecord>(
    database,
    `SELECT issuer_id AS issuerId, number, this_update AS thisUpdate, next_update AS nextUpdate, der
     FROM crls WHERE issuer_id = ? ORDER BY number DESC LIMIT 1`,
  );
  return {
    listIssuers: async () => issuers.all(),
    async currentBundle() {
      const row = bundle.get();
      return row === undefined ? null : toBundle(row);
    },
    latestCrl: async (issuerId) => crl.get(issuerId) ?? null,
  };
}

/** Every CA certificate, in the order they came. */
export function storedIssuers(database: Connection): Statement<[], IssuerRow> {
  return prepare<[], IssuerRow>(
    database,
    `SELECT id, kind, parent, state, certificate, twin, not_before AS notBefore, not_after AS notAfter FROM issuers ORDER BY no`,
  );
}

export function issuerWrites(
  context: WriteContext,
): Pick<Writes, "found" | "recordCrl" | "revokeIssuer" | "importCrl"> {
  const { database } = context;
  const founded = prepare<[], number>(database, "SELECT 1 FROM issuers LIMIT 1").pluck();
  const insertIssuer = prepare(
    database,
    `INSERT INTO issuers (id, kind, parent, state, not_before, not_after, certificate, twin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const insertBundle = prepare(
    database,
    "INSERT INTO bundles (version, created_at, roots, intermediates, cross_certificates) VALUES (?, ?, ?, ?, ?)",
  );
  const recordCrl = crlWriter(database);
  const addIdentity = identityAdder(database);
  return {
    found(foundation: Foundation) {
      if (founded.get() !== undefined) {
        throw new AppError("conflict", "The store already has issuers: a service is founded once.");
      }
      for (const row of foundation.issuers) {
        insertIssuer.run(
          row.id,
          row.kind,
          row.parent,
          row.state,
          row.notBefore,
          row.notAfter,
          row.certificate,
          row.twin,
        );
      }
      for (const crl of foundation.crls) recordCrl(crl);
      const { bundle } = foundation;
      insertBundle.run(
        bundle.version,
        bundle.createdAt,
        JSON.stringify(bundle.roots),
        JSON.stringify(bundle.intermediates),
        JSON.stringify(bundle.crossCertificates.map((der) => Buffer.from(der).toString("base64"))),
      );
      for (const { entry, role } of foundation.identities) addIdentity(entry, role ?? null, foundation.at);
      context.audit.append(foundation.audit);
    },
    recordCrl(crl, audit) {
      recordCrl(crl);
      context.audit.append(audit);
    },
    ...revocationOfIssuers(context, recordCrl),
  };
}

/** The issuer itself, and the CRL that its parent's key made elsewhere. */
function revocationOfIssuers(
  { database, audit }: WriteContext,
  recordCrl: ReturnType<typeof crlWriter>,
): Pick<Writes, "revokeIssuer" | "importCrl"> {
  const nextNumber = crlNumberer(database);
  const isKnown = prepare<[string], number>(database, "SELECT 1 FROM issuers WHERE id = ?").pluck();
  const retire = prepare(
    database,
    "UPDATE issuers SET state = 'retired', revoked_at = ?, revocation_reason = ? WHERE id = ? AND revoked_at IS NULL",
  );
  const withdraw = leafWithdrawer(database);
  const reasonOf = prepare<[string, string], RevocationReason>(
    database,
    "SELECT reason FROM revocations WHERE issuer_id = ? AND serial = ?",
  ).pluck();
  // What the CRL says counts: its issuer's key made it. But a hold could be lifted: it takes the place of nothing final.
  const list = prepare(
    database,
    `INSERT INTO revocations (issuer_id, serial, reason, revoked_at, not_after) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (issuer_id, serial) DO UPDATE SET reason = excluded.reason, revoked_at = excluded.revoked_at`,
  );
  return {
    revokeIssuer(revocation) {
      const { issuerId, reason, at } = revocation;
      if (isKnown.get(issuerId) === undefined) throw new AppError("not-found", `There is no issuer ${issuerId}.`);
      if (retire.run(at, reason, issuerId).changes === 1) audit.append(revocation.audit);
    },
    importCrl({ crl, basisNext, records, audit: entries }) {
      if (nextNumber(crl.issuerId) !== basisNext)
        throw new StaleBasis(`Issuer ${crl.issuerId} got another CRL after this one was judged.`);
      for (const record of records) {
        const { issuerId, serial, reason, revokedAt, notAfter } = record;
        const before = reasonOf.get(issuerId, serial) ?? "certificateHold";
        if (reason === "certificateHold" && before !== "certificateHold") continue;
        list.run(issuerId, serial, reason, revokedAt, notAfter);
        withdraw(record);
      }
      recordCrl(crl, { mayLeap: true });
      audit.append(entries);
    },
  };
}

/**
 * Stores a CRL, drops all but the newest two of its issuer, and takes the issuer off the list of those that need one.
 * The number check is what keeps a CRL that was built from an older list from hiding a newer revocation.
 */
export function crlWriter(database: Connection): (crl: CrlRecord, options?: { readonly mayLeap?: boolean }) => void {
  const nextNumber = crlNumberer(database);
  const insert = prepare(
    database,
    "INSERT INTO crls (issuer_id, number, this_update, next_update, der) VALUES (?, ?, ?, ?, ?)",
  );
  const drop = prepare(database, "DELETE FROM crls WHERE issuer_id = ? AND number <= ?");
  // A revocation of the same moment or later may have missed this CRL. It keeps the issuer on the list for one more, which is
  // made later than this one even if the clock that dated the revocation was ahead.
  const settle = prepare(
    database,
    "UPDATE issuers SET crl_stale_since = iif(crl_stale_since < ?, NULL, ?) WHERE id = ? AND crl_stale_since IS NOT NULL",
  );
  const settleEntries = prepare(
    database,
    "UPDATE revocations SET crl_number = ? WHERE issuer_id = ? AND crl_number IS NULL",
  );
  return (crl, { mayLeap = false } = {}) => {
    const next = nextNumber(crl.issuerId);
    if (mayLeap && crl.number < next)
      throw new AppError("conflict", `CRL ${crl.number} of issuer ${crl.issuerId} is below ${next}, the next number.`);
    // The first of all may have any number: it was made at a ceremony.
    if (crl.number !== next && next !== 1 && !mayLeap) {
      throw new StaleBasis(
        `CRL ${crl.number} of issuer ${crl.issuerId} was made to be another one; the next is ${next}.`,
      );
    }
    insert.run(crl.issuerId, crl.number, crl.thisUpdate, crl.nextUpdate, crl.der);
    drop.run(crl.issuerId, crl.number - keptCrls);
    const asOf = crl.asOf ?? crl.thisUpdate;
    settle.run(asOf, asOf, crl.issuerId);
    settleEntries.run(crl.number, crl.issuerId);
  };
}

function toBundle(row: StoredBundle): BundleRow {
  return {
    version: row.version,
    createdAt: row.createdAt,
    roots: JSON.parse(row.roots) as string[],
    intermediates: JSON.parse(row.intermediates) as string[],
    crossCertificates: (JSON.parse(row.crossCertificates) as string[]).map((text) => Buffer.from(text, "base64")),
  };
}
