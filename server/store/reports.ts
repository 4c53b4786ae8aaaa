import type { AgentReport } from "@newleaf/shared/api";

export interface ReportRow {
  readonly identity: string;
  readonly at: number;
  /** Serial of the leaf that authenticated the report. */
  readonly serial: string;
  /** Agent's clock minus the service's, milliseconds. */
  readonly clockSkew: number;
  readonly report: AgentReport;
}

export interface AgentStanding {
  readonly identity: string;
  readonly lastSeenAt: number;
  readonly clockSkew: number | null;
  /** Something served is not what is in force. */
  readonly mismatch: boolean;
}

export interface ReportedCrls {
  readonly position: number;
  readonly identity: string;
  readonly at: number;
  /** Issuer id → number. */
  readonly crls: Readonly<Record<string, number>>;
}

export interface ReportStore {
  /** Replaces the identity's previous report; also its last seen. */
  recordReport(row: ReportRow): Promise<void>;
  /** Any authenticated request, and the leaf that made it; callers throttle. */
  recordSeen(identity: string, at: number, use?: { readonly serial: string; readonly address: string }): Promise<void>;
  /**
   * CRL numbers in force by identity, as last reported by those who still hold a leaf in date; in parts, `after` is the `position` of
   * the last one had (0: from the start).
   */
  listReportedCrls(after: number, limit: number, now: number): Promise<readonly ReportedCrls[]>;
  findReport(identity: string): Promise<ReportRow | null>;
  /** The longest silent first. */
  listStandings(limit: number): Promise<readonly AgentStanding[]>;
}
