import type { AuditEntry } from "./audit.ts";

/** A place in the walk over expired certificates, which goes by their end. */
export interface ExpiryPosition {
  readonly notAfter: number;
  /** Row number, among those of the same end. */
  readonly no: number;
}

/** One step of the walk: the next `limit` certificates after a place, of those that ended before the horizon. */
export interface RetentionSlice {
  /** The horizon: what ended at or after it stays. It never steps back. */
  readonly before: number;
  readonly after: ExpiryPosition | null;
  readonly limit: number;
}

export interface RetentionCounts {
  readonly certificates: number;
  readonly lineages: number;
  readonly keys: number;
  readonly tokens: number;
  readonly requests: number;
  readonly grants: number;
}

/** What a slice holds, or what became of it. */
export interface RetentionStep {
  /** That may go, or went. */
  readonly counts: RetentionCounts;
  /** Where the next slice goes on; null after the last certificate. */
  readonly next: ExpiryPosition | null;
}

export interface RetentionState {
  readonly horizon: number | null;
  /** When the last run ended; null before the first. */
  readonly endedAt: number | null;
  /** Removed since then: by a run that is under way or was cut short. */
  readonly open: RetentionCounts;
}

/**
 * Letting go of what expired long ago. A certificate goes when it ended before the horizon, no CRL must list it any more (RFC 5280
 * §3.3), it is not the newest leaf of an identity that exists, and its lineage is not locked. With it go its revocation, its lineage
 * when that is over and empty, and its key when that was only ever issued for (not approved, not blocked) and has no certificate left.
 * Tokens, requests and grants go when they ended before the horizon. Audit rows never go.
 */
export interface RetentionStore {
  retentionState(): Promise<RetentionState>;
  /** What `forgetExpired` would do with this slice; writes nothing. `lineages` and `keys` are not counted. */
  findExpired(slice: RetentionSlice): Promise<RetentionStep>;
  /** Removes what may go of this slice. Its counts are audited by `endRetention`, not here: one row for a run of many slices. */
  forgetExpired(slice: RetentionSlice): Promise<RetentionStep>;
  /**
   * Ends a run: one audit row, `entry` with the counts of everything removed since the last one in its detail. Resolves to them.
   */
  endRetention(at: number, entry: AuditEntry): Promise<RetentionCounts>;
}
