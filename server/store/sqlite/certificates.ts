import { AppError } from "@newleaf/shared/problems";
import type {
  CertificateCounts,
  CertificateRow,
  CertificateStore,
  InForce,
  IssuanceBasis,
  IssuanceRecord,
  NewCertificate,
  PresentedLeaf,
} from "../certificates.ts";
import type { CrlRecord } from "../issuers.ts";
import type { RevocationRecord } from "../revocations.ts";
import { StaleBasis } from "../store.ts";
import { readCertificatePage } from "./certificate-list.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { spender } from "./enrollments.ts";
import { inForce } from "./in-force.ts";
import { crlWriter } from "./issuers.ts";
import { keyBinder } from "./keys.ts";
import { leafUseWriter } from "./leaf-uses.ts";
import { revocationWriter } from "./revocations.ts";

type Reads = Omit<CertificateStore, "recordIssuance" | "promote">;

const columns = `c.serial, c.issuer_id AS issuerId, c.identity, c.profile, c.kind, c.lineage, c.generation, c.parent, c.state,
  c.key_fingerprint AS "key", c.fingerprint, c.der, c.not_before AS notBefore, c.not_after AS notAfter, c.issued_at AS issuedAt,
  c.renewal_start AS renewalStart, c.renewal_end AS renewalEnd, c.first_used_at AS firstUsedAt, c.superseded_at AS supersededAt,
  c.revoked_at AS revokedAt, c.reason`;

/** In force, of an identity that still exists, and not the service's own: what the metrics speak of. */
const fleetInForce = `FROM certificates c WHERE c.profile <> 'service'
  AND c.identity NOT IN (SELECT id FROM identities WHERE state = 'removed') AND ${inForce}`;

export function certificateReads(database: Connection): Reads {
  return { ...lookups(database), ...lists(database), ...counts(database) };
}

function lookups(
  database: Connection,
): Pick<Reads, "findPresented" | "findCertificate" | "findSuccessor" | "findPendingByKey" | "findLast"> {
  const one = (rest: string) =>
    prepare<string[], CertificateRow>(database, `SELECT ${columns} FROM certificates c ${rest}`);
  const presented = prepare<[string], PresentedLeaf>(
    database,
    `SELECT ${columns}, s.state AS issuerState, i.state AS identityState, i.revision AS identityRevision, l.state AS lineageState
     FROM certificates c JOIN issuers s ON s.id = c.issuer_id JOIN identities i ON i.id = c.identity
     LEFT JOIN lineages l ON l.id = c.lineage WHERE c.serial = ?`,
  );
  const bySerial = one("WHERE c.serial = ?");
  const successor = one(
    `JOIN certificates p ON c.lineage = p.lineage AND c.generation > p.generation AND c.parent = p.serial
     WHERE p.serial = ? AND c.state IN ('pending', 'current') ORDER BY c.generation DESC LIMIT 1`,
  );
  const pendingByKey = one(
    "WHERE c.identity = ? AND c.key_fingerprint = ? AND c.state = 'pending' ORDER BY c.no DESC LIMIT 1",
  );
  const last = one("WHERE c.identity = ? ORDER BY c.no DESC LIMIT 1");
  return {
    findPresented: async (serial) => presented.get(serial) ?? null,
    findCertificate: async (serial) => bySerial.get(serial) ?? null,
    findSuccessor: async (parent) => successor.get(parent) ?? null,
    findPendingByKey: async (identity, key) => pendingByKey.get(identity, key) ?? null,
    findLast: async (identity) => last.get(identity) ?? null,
  };
}

function lists(
  database: Connection,
): Pick<Reads, "listLineageCertificates" | "listUsable" | "listCertificates" | "listInForce"> {
  const ofLineage = prepare<[string], CertificateRow>(
    database,
    `SELECT ${columns} FROM certificates c WHERE c.lineage = ? ORDER BY c.generation`,
  );
  const usable = prepare<[string, number], CertificateRow>(
    database,
    `SELECT ${columns} FROM certificates c
     WHERE c.identity = ? AND c.state IN ('pending', 'current', 'superseded') AND c.not_after >= ? ORDER BY c.no DESC`,
  );
  const urgent = prepare<[number], InForce>(
    database,
    `SELECT c.identity, c.profile, c.serial, c.fingerprint, c.not_after AS notAfter ${fleetInForce} ORDER BY c.not_after LIMIT ?`,
  );
  return {
    listLineageCertificates: async (lineage) => ofLineage.all(lineage),
    listUsable: async (identity, now) => usable.all(identity, now),
    listInForce: async (limit) => urgent.all(limit),
    listCertificates: async (request) => readCertificatePage(database, request, columns),
  };
}

function counts(
  database: Connection,
): Pick<Reads, "countCertificates" | "countInForceBefore" | "countOverdue" | "countUnconfirmed"> {
  const count = (sql: string) => prepare<number[], number>(database, sql).pluck();
  const totals = prepare<[], CertificateCounts>(
    database,
    "SELECT state, profile, count FROM certificate_totals WHERE count > 0",
  );
  // Of those that can expire, whichever side of now is the small one: few live leaves are out of date, few superseded ones in date.
  const liveExpired = prepare<[number], CertificateCounts>(
    database,
    `SELECT state, profile, count(*) AS count FROM certificates
     WHERE state IN ('pending', 'current') AND not_after < ? GROUP BY state, profile`,
  );
  const supersededInDate = prepare<[number], CertificateCounts>(
    database,
    `SELECT state, profile, count(*) AS count FROM certificates
     WHERE state = 'superseded' AND not_after >= ? GROUP BY state, profile`,
  );
  const before = count(`SELECT count(*) ${fleetInForce} AND c.not_after < ? AND c.not_after >= ?`);
  const overdue = count(`SELECT count(*) ${fleetInForce} AND c.renewal_end < ?`);
  const unconfirmed = count("SELECT count(*) FROM certificates WHERE state = 'pending' AND issued_at < ?");
  return {
    async countCertificates(now) {
      return withExpired(totals.all(), liveExpired.all(now), supersededInDate.all(now));
    },
    countInForceBefore: async (notAfter, now) => before.get(notAfter, now) ?? 0,
    countOverdue: async (now) => overdue.get(now) ?? 0,
    countUnconfirmed: async (issuedBefore) => unconfirmed.get(issuedBefore) ?? 0,
  };
}

function withExpired(
  totals: readonly CertificateCounts[],
  liveExpired: readonly CertificateCounts[],
  supersededInDate: readonly CertificateCounts[],
): readonly CertificateCounts[] {
  const find = (rows: readonly CertificateCounts[], of: CertificateCounts) =>
    rows.find((row) => row.state === of.state && row.profile === of.profile)?.count ?? 0;
  const expired = new Map<CertificateCounts["profile"], number>();
  const result: CertificateCounts[] = [];
  for (const total of totals) {
    let gone = 0;
    if (total.state === "pending" || total.state === "current") gone = find(liveExpired, total);
    if (total.state === "superseded") gone = total.count - find(supersededInDate, total);
    if (gone > 0) expired.set(total.profile, (expired.get(total.profile) ?? 0) + gone);
    if (total.count > gone) result.push({ ...total, count: total.count - gone });
  }
  for (const [profile, count] of expired) result.push({ state: "expired", profile, count });
  return result;
}

export function certificateWrites(context: WriteContext): Pick<Writes, "recordIssuance" | "promote"> {
  const { database } = context;
  const insert = prepare(
    database,
    `INSERT INTO certificates (serial, issuer_id, identity, profile, kind, lineage, generation, parent, state, key_fingerprint,
       fingerprint, not_before, not_after, issued_at, renewal_start, renewal_end, first_used_at, der)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const checkBasis = basisChecker(database);
  const bindKey = keyBinder(database);
  const placeInLineage = lineagePlacer(database);
  const spend = spender(database);
  const replace = replacer(database);
  const recordCrl = crlWriter(database);
  const promote = promoter(database);
  const noteUse = leafUseWriter(database);
  return {
    recordIssuance(record: IssuanceRecord) {
      const { certificate: c, basis } = record;
      checkBasis(basis, c);
      bindKey(c.key, c.identity);
      placeInLineage(record);
      try {
        insert.run(
          c.serial,
          c.issuerId,
          c.identity,
          c.profile,
          c.kind,
          c.lineage,
          c.generation,
          c.parent,
          c.state,
          c.key,
          c.fingerprint,
          c.notBefore,
          c.notAfter,
          c.issuedAt,
          c.renewalStart,
          c.renewalEnd,
          c.state === "current" ? c.issuedAt : null,
          c.der,
        );
      } catch (error) {
        if (isTakenSerial(error)) throw new StaleBasis(`The serial ${c.serial} is taken.`, { cause: error });
        throw error;
      }
      spend(record);
      if (record.replaces !== undefined) replace(record.replaces, record.crls ?? []);
      for (const crl of record.crls ?? []) recordCrl(crl);
      context.audit.append(record.audit);
    },
    promote(record) {
      if (!promote(record.serial, record.at)) return;
      if (record.address !== undefined) noteUse(record.serial, record.at, record.address);
      context.audit.append(record.audit);
    },
  };
}

/** Throws StaleBasis when anything the decision relied on has moved. */
function basisChecker(database: Connection): (basis: IssuanceBasis, certificate: NewCertificate) => void {
  const revision = prepare<[string], number>(
    database,
    "SELECT revision FROM identities WHERE id = ? AND state <> 'removed'",
  ).pluck();
  const issuer = prepare<[string], string>(database, "SELECT state FROM issuers WHERE id = ?").pluck();
  const presented = prepare<[string], string>(database, "SELECT state FROM certificates WHERE serial = ?").pluck();
  const lineage = prepare<[string], { state: string; newest: number }>(
    database,
    "SELECT state, newest_generation AS newest FROM lineages WHERE id = ?",
  );
  const locked = prepare<[string], number>(
    database,
    "SELECT 1 FROM lineages WHERE identity = ? AND state = 'locked'",
  ).pluck();
  const usable = prepare<[string, number], number>(
    database,
    `SELECT 1 FROM certificates
     WHERE identity = ? AND not_after >= ? AND state IN ('pending', 'current', 'superseded') LIMIT 1`,
  ).pluck();
  return (basis, certificate) => {
    const moved = (what: string) => new StaleBasis(`${what} changed after the decision.`);
    if (basis.identity.id !== certificate.identity || basis.issuerId !== certificate.issuerId) {
      throw new AppError("internal", "A certificate was decided for one identity or issuer and made for another.");
    }
    if (revision.get(basis.identity.id) !== basis.identity.revision) throw moved(`Identity ${basis.identity.id}`);
    if (issuer.get(basis.issuerId) !== "active") throw moved(`Issuer ${basis.issuerId}`);
    if (basis.presented !== undefined && presented.get(basis.presented.serial) !== basis.presented.state) {
      throw moved(`The presented leaf ${basis.presented.serial}`);
    }
    if (basis.lineage !== undefined) {
      const row = lineage.get(basis.lineage.id);
      if (row?.state !== "active" || row.newest !== basis.lineage.newestGeneration) {
        throw moved(`Lineage ${basis.lineage.id}`);
      }
    }
    if (basis.noLockedLineage === true && locked.get(basis.identity.id) !== undefined) {
      throw moved(`A lineage of ${basis.identity.id}`);
    }
    if (basis.armedKey !== undefined && usable.get(basis.identity.id, certificate.issuedAt) !== undefined) {
      throw moved(`That ${basis.identity.id} has no usable leaf`);
    }
  };
}

/** Begins the lineage, or makes the certificate its newest generation. */
function lineagePlacer(database: Connection): (record: IssuanceRecord) => void {
  const begin = prepare(
    database,
    "INSERT INTO lineages (id, identity, state, created_at, newest_generation) VALUES (?, ?, 'active', ?, ?)",
  );
  const advance = prepare(
    database,
    "UPDATE lineages SET newest_generation = ? WHERE id = ? AND identity = ? AND newest_generation < ?",
  );
  return ({ certificate: c, newLineage }) => {
    if (newLineage !== undefined) {
      begin.run(newLineage, c.identity, c.issuedAt, c.generation);
    } else if (c.lineage !== null && advance.run(c.generation, c.lineage, c.identity, c.generation).changes !== 1) {
      throw new StaleBasis(`Lineage ${c.lineage} has a newer generation than ${c.generation - 1}.`);
    }
  };
}

/** The pending leaf that the new one replaces: no longer usable, and revoked in the same breath. */
function replacer(database: Connection): (record: RevocationRecord, crls: readonly CrlRecord[]) => void {
  const update = prepare(
    database,
    "UPDATE certificates SET state = 'replaced', revoked_at = ?, reason = ? WHERE serial = ? AND state = 'pending'",
  );
  const putRevocation = revocationWriter(database);
  return (record, crls) => {
    if (update.run(record.revokedAt, record.reason, record.serial).changes !== 1) {
      throw new StaleBasis(`The leaf to be replaced, ${record.serial}, is no longer pending.`);
    }
    putRevocation(record, crls);
  };
}

/** First use. True when the leaf was pending and became current. */
function promoter(database: Connection): (serial: string, at: number) => boolean {
  const find = prepare<
    [string],
    { no: number; identity: string; lineage: string | null; generation: number; lineageState: string | null }
  >(
    database,
    `SELECT c.no, c.identity, c.lineage, c.generation, l.state AS lineageState
     FROM certificates c LEFT JOIN lineages l ON l.id = c.lineage WHERE c.serial = ? AND c.state = 'pending'`,
  );
  const use = prepare(database, "UPDATE certificates SET state = 'current', first_used_at = ? WHERE no = ?");
  // A held leaf stays held, but lifting the hold must not bring back what has been followed meanwhile.
  const supersede = prepare(
    database,
    `UPDATE certificates SET superseded_at = ?, state = iif(state = 'held', 'held', 'superseded'),
       state_before_hold = iif(state = 'held', 'superseded', NULL)
     WHERE identity = ? AND no <> ? AND lineage IS NOT NULL AND (lineage <> ? OR generation < ?)
       AND coalesce(state_before_hold, state) IN ('pending', 'current')`,
  );
  const end = prepare(
    database,
    "UPDATE lineages SET state = 'ended' WHERE identity = ? AND id <> ? AND state = 'active'",
  );
  return (serial, at) => {
    const leaf = find.get(serial);
    if (leaf === undefined || leaf.lineage === null || leaf.lineageState !== "active") return false;
    use.run(at, leaf.no);
    supersede.run(at, leaf.identity, leaf.no, leaf.lineage, leaf.generation);
    end.run(leaf.identity, leaf.lineage);
    return true;
  };
}

function isTakenSerial(error: unknown): boolean {
  return error instanceof Error && error.message === "UNIQUE constraint failed: certificates.serial";
}
