import type { AuditEntry } from "./audit.ts";
import type { Page, PageRequest } from "./store.ts";

/** `ended`: revoked as a whole, or followed by another lineage. */
export type LineageState = "active" | "locked" | "ended";

export interface LineageRow {
  readonly id: string;
  readonly identity: string;
  readonly state: LineageState;
  readonly createdAt: number;
  readonly newestGeneration: number;
  readonly lockedAt: number | null;
  /** What was seen when it locked: presented serial, its state, the key that asked, addresses. */
  readonly evidence: Readonly<Record<string, unknown>> | null;
}

/** Where a leaf was used from. The last use may be a few minutes older than the truth. */
export interface LeafUse {
  readonly serial: string;
  readonly generation: number;
  readonly firstAt: number;
  readonly firstAddress: string;
  readonly lastAt: number;
  readonly lastAddress: string;
}

export interface LineageFilter extends PageRequest {
  readonly identity?: string;
  readonly state?: LineageState;
}

export interface LineageStore {
  findLineage(id: string): Promise<LineageRow | null>;
  listLineages(filter: LineageFilter): Promise<Page<LineageRow>>;
  /** The identity's locked lineage, if it has one. */
  findLockedLineage(identity: string): Promise<LineageRow | null>;
  countLockedLineages(): Promise<number>;
  /** Oldest generation first; leaves that were never used are left out. */
  listLeafUses(lineage: string): Promise<readonly LeafUse[]>;
  /** active → locked; already locked or ended stays as it is (the audit rows are written all the same). Resolves true when it changed. */
  lockLineage(
    id: string,
    evidence: Readonly<Record<string, unknown>>,
    at: number,
    audit: readonly AuditEntry[],
  ): Promise<boolean>;
  /** locked → active; its current generation stays in force. Throws AppError `not-found`, `conflict` when it is not locked. */
  releaseLineage(id: string, at: number, audit: readonly AuditEntry[]): Promise<void>;
}
