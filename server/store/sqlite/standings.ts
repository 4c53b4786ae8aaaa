import type { AgentReport } from "@newleaf/shared/api";
import type { BehindCrl, HostReport, LeafBrief, Mismatch, Overdue, Silence, StandingStore } from "../standings.ts";
import { type Connection, prepare } from "./database.ts";
import { inForce } from "./in-force.ts";

const active = "i.state = 'active'";

const mismatched = `FROM reports r INDEXED BY reports_mismatched CROSS JOIN identities i ON i.id = r.identity
  WHERE r.mismatch_since < ? AND ${active}`;
// Who never reported has no agent; whose leaf has ended is told of as such.
const silent = `FROM sightings s INDEXED BY sightings_by_time CROSS JOIN identities i ON i.id = s.identity
  WHERE s.last_seen_at < ? AND ${active} AND EXISTS (SELECT 1 FROM reports r WHERE r.identity = i.id)
    AND EXISTS (SELECT 1 FROM certificates c WHERE c.identity = i.id AND c.state IN ('pending', 'current') AND c.not_after >= ?)`;
const behind = `FROM report_crls b INDEXED BY report_crls_by_number CROSS JOIN identities i ON i.id = b.identity
  WHERE b.issuer = ? AND b.number < ? AND ${active}
    AND EXISTS (SELECT 1 FROM sightings s WHERE s.identity = i.id AND s.last_seen_at >= ?)`;
const overdue = `FROM certificates c INDEXED BY certificates_live_by_renewal CROSS JOIN identities i ON i.id = c.identity
  WHERE c.renewal_end < ? AND ${active} AND i.profile <> 'service' AND ${inForce}`;

const brief = `c.identity, c.serial, c.fingerprint, c.state, c.lineage, c.issued_at AS issuedAt, c.not_after AS notAfter,
  c.renewal_end AS renewalEnd`;

type HostReads = Pick<StandingStore, "listLiveLeaves" | "listReports" | "findLeafByFingerprint">;

/** Of some identities at once: a page of a list asks once, not once for each row. */
function hostReads(database: Connection): HostReads {
  const live = prepare<[string, number], LeafBrief>(
    database,
    `SELECT ${brief} FROM json_each(?) wanted CROSS JOIN certificates c INDEXED BY certificates_live_by_identity
       ON c.identity = wanted.value
     WHERE c.state IN ('pending', 'current') AND c.not_after >= ? ORDER BY c.no DESC`,
  );
  const reports = prepare<[string], Omit<HostReport, "report"> & { readonly report: string }>(
    database,
    `SELECT r.identity, r.at, r.serial, r.clock_skew AS clockSkew, r.report, r.mismatch_since AS mismatchSince
     FROM json_each(?) wanted CROSS JOIN reports r ON r.identity = wanted.value`,
  );
  const byFingerprint = prepare<[string, string], LeafBrief>(
    database,
    `SELECT ${brief} FROM certificates c INDEXED BY certificates_by_fingerprint
     WHERE substr(c.fingerprint, 8, 10) = substr(?, 8, 10) AND c.fingerprint = ?`,
  );
  return {
    listLiveLeaves: async (identities, now) => live.all(JSON.stringify(identities), now),
    listReports: async (identities) =>
      reports.all(JSON.stringify(identities)).map((row) => ({ ...row, report: JSON.parse(row.report) as AgentReport })),
    findLeafByFingerprint: async (fingerprint) => byFingerprint.get(fingerprint, fingerprint) ?? null,
  };
}

export function standingReads(database: Connection): StandingStore {
  const count = (from: string) => prepare<(string | number)[], number>(database, `SELECT count(*) ${from}`).pluck();
  const list = <Row>(what: string) => prepare<(string | number)[], Row>(database, `SELECT ${what} LIMIT ?`);
  const mismatches = count(mismatched);
  const longestMismatched = list<Mismatch>(
    `r.identity, r.mismatch_since AS since, r.at ${mismatched} ORDER BY r.mismatch_since`,
  );
  const silences = count(silent);
  const longestSilent = list<Silence>(`s.identity, s.last_seen_at AS lastSeenAt ${silent} ORDER BY s.last_seen_at`);
  const behindCrl = count(behind);
  const furthestBehind = list<BehindCrl>(`b.identity, b.number ${behind} ORDER BY b.number`);
  const overdueCount = count(overdue);
  const longestOverdue = list<Overdue>(
    `c.identity, c.profile, c.serial, c.issued_at AS issuedAt, c.not_after AS notAfter, c.renewal_end AS renewalEnd
     ${overdue} ORDER BY c.renewal_end`,
  );
  const reports = prepare<[number], number>(database, "SELECT count(*) FROM reports WHERE at >= ?").pluck();
  const middle = prepare<[number, number], number>(
    database,
    `SELECT clock_skew FROM reports INDEXED BY reports_by_clock_skew WHERE at >= ? ORDER BY clock_skew LIMIT 1 OFFSET ?`,
  ).pluck();
  return {
    ...hostReads(database),
    countMismatches: async (before) => mismatches.get(before) ?? 0,
    listMismatches: async (before, limit) => longestMismatched.all(before, limit),
    countSilent: async (before, now) => silences.get(before, now) ?? 0,
    listSilent: async (before, now, limit) => longestSilent.all(before, now, limit),
    countBehindCrl: async (issuer, number, since) => behindCrl.get(issuer, number, since) ?? 0,
    listBehindCrl: async (issuer, number, since, limit) => furthestBehind.all(issuer, number, since, limit),
    countOverdueActive: async (now) => overdueCount.get(now) ?? 0,
    listOverdue: async (now, limit) => longestOverdue.all(now, limit),
    async medianClockSkew(since) {
      const all = reports.get(since) ?? 0;
      if (all === 0) return null;
      return { skew: middle.get(since, Math.floor(all / 2)) ?? 0, reports: all };
    },
  };
}

/** What a report changes of the above; to be called after it is written. */
export function standingWriter(
  database: Connection,
): (identity: string, at: number, crls: Readonly<Record<string, number>>) => void {
  const judge = prepare(
    database,
    `UPDATE reports SET mismatch_since = iif(EXISTS (SELECT 1 FROM json_each(served) seen WHERE seen.value IS NOT
         (SELECT fingerprint FROM certificates c WHERE c.identity = reports.identity AND c.state IN ('pending', 'current')
          ORDER BY c.no DESC LIMIT 1)), coalesce(mismatch_since, ?), NULL)
     WHERE identity = ?`,
  );
  const forget = prepare(
    database,
    "DELETE FROM report_crls WHERE identity = ? AND issuer NOT IN (SELECT key FROM json_each(?))",
  );
  const put = prepare(
    database,
    `INSERT INTO report_crls (identity, issuer, number) VALUES (?, ?, ?)
     ON CONFLICT (identity, issuer) DO UPDATE SET number = excluded.number WHERE number <> excluded.number`,
  );
  return (identity, at, crls) => {
    judge.run(at, identity);
    forget.run(identity, JSON.stringify(crls));
    for (const [issuer, number] of Object.entries(crls)) put.run(identity, issuer, number);
  };
}
