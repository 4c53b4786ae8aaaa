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

export interface ReportStore {
  /** Replaces the identity's previous report; also its last seen. */
  recordReport(row: ReportRow): Promise<void>;
  /** Any authenticated request; callers throttle. */
  recordSeen(identity: string, at: number): Promise<void>;
  findReport(identity: string): Promise<ReportRow | null>;
  /** The longest silent first. */
  listStandings(limit: number): Promise<readonly AgentStanding[]>;
}
