import type { AgentReport } from "@newleaf/shared/api";
import type { AgentStanding, ReportedCrls, ReportRow, ReportStore } from "../reports.ts";
import type { WriteContext, Writes } from "./commands.ts";
import { type Connection, prepare } from "./database.ts";
import { leafUseWriter } from "./leaf-uses.ts";
import { standingWriter } from "./standings.ts";

interface StoredReport extends Omit<ReportRow, "report"> {
  readonly report: string;
}

interface StoredStanding extends Omit<AgentStanding, "mismatch"> {
  readonly mismatch: 0 | 1;
}

export function reportReads(
  database: Connection,
): Pick<ReportStore, "findReport" | "listStandings" | "listReportedCrls"> {
  const find = prepare<[string], StoredReport>(
    database,
    "SELECT identity, at, serial, clock_skew AS clockSkew, report FROM reports WHERE identity = ?",
  );
  const standings = prepare<[number], StoredStanding>(
    database,
    `SELECT s.identity, s.last_seen_at AS lastSeenAt, r.clock_skew AS clockSkew,
       r.served IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(r.served) seen WHERE seen.value IS NOT
         (SELECT fingerprint FROM certificates WHERE identity = s.identity AND state IN ('pending', 'current')
          ORDER BY no DESC LIMIT 1)) AS mismatch
     FROM sightings s JOIN identities i ON i.id = s.identity LEFT JOIN reports r ON r.identity = s.identity
     WHERE i.state <> 'removed' ORDER BY s.last_seen_at LIMIT ?`,
  );
  const crls = prepare<[number, number, number], Omit<ReportedCrls, "crls"> & { readonly crls: string }>(
    database,
    `SELECT r.no AS position, r.identity, r.at, json_extract(r.report, '$.crls') AS crls FROM reports r
     WHERE r.no > ? AND EXISTS (SELECT 1 FROM certificates c
       WHERE c.identity = r.identity AND c.state IN ('pending', 'current') AND c.not_after > ?) ORDER BY r.no LIMIT ?`,
  );
  return {
    async listReportedCrls(after, limit, now) {
      return crls
        .all(after, now, limit)
        .map((row) => ({ ...row, crls: JSON.parse(row.crls) as Record<string, number> }));
    },
    async findReport(identity) {
      const row = find.get(identity);
      return row === undefined ? null : { ...row, report: JSON.parse(row.report) as AgentReport };
    },
    async listStandings(limit) {
      return standings.all(limit).map((row) => ({ ...row, mismatch: row.mismatch === 1 }));
    },
  };
}

export function reportWrites(context: WriteContext): Pick<Writes, "recordReport" | "recordSeen"> {
  const { database } = context;
  const see = prepare(
    database,
    `INSERT INTO sightings (identity, last_seen_at) VALUES (?, ?)
     ON CONFLICT (identity) DO UPDATE SET last_seen_at = excluded.last_seen_at`,
  );
  const put = prepare(
    database,
    `INSERT INTO reports (identity, at, serial, clock_skew, report, served) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (identity) DO UPDATE SET at = excluded.at, serial = excluded.serial, clock_skew = excluded.clock_skew,
       report = excluded.report, served = excluded.served`,
  );
  const noteUse = leafUseWriter(database);
  const judge = standingWriter(database);
  return {
    recordReport({ identity, at, serial, clockSkew, report }) {
      see.run(identity, at);
      put.run(identity, at, serial, clockSkew, JSON.stringify(report), JSON.stringify(servedFingerprints(report)));
      judge(identity, at, report.crls);
    },
    recordSeen(identity, at, use) {
      see.run(identity, at);
      if (use !== undefined) noteUse(use.serial, at, use.address);
    },
  };
}

function servedFingerprints(report: AgentReport): readonly string[] {
  return [...new Set(report.certificates.flatMap((entry) => entry.served.map((seen) => seen.fingerprint)))];
}
