import type { Page, PageRequest } from "./store.ts";

export type ActorKind = "operator" | "agent" | "stranger" | "system";

/** What is handed to a write; the store gives it its place in the chain in the same transaction. */
export interface AuditEntry {
  readonly at: number;
  readonly actorKind: ActorKind;
  /** Identity id, or "system", or "stranger". */
  readonly actor: string;
  /** Dotted verb, past tense: `certificate.issued`, `certificate.revoked`, `request.refused`, `inventory.changed` … */
  readonly action: string;
  /** What it was done to: an identity id, serial, lineage id, token id … */
  readonly target?: string;
  readonly requestId?: string;
  readonly address?: string;
  /** JSON-serialisable facts, no secrets. `identity` is the one concerned, where there is one: the log is searched by it. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** A row of the chain: `hash` covers every other field and the previous row's hash (see `server/audit-chain.ts`). */
export interface AuditRow extends AuditEntry {
  readonly seq: number;
  /** Hex. Of the first row: 64 zeros. */
  readonly previousHash: string;
  readonly hash: string;
}

export interface AuditFilter extends PageRequest {
  readonly actor?: string;
  /** A whole one, or the beginning of several up to a dot: `certificate.`. */
  readonly action?: string;
  readonly target?: string;
  /** Rows whose target it is, and those whose detail names it. */
  readonly identity?: string;
  readonly requestId?: string;
  /** At this time or later. */
  readonly since?: number;
  /** Before this time. */
  readonly until?: number;
  /** Rows after the one of this number, and then oldest first: for who follows the log. */
  readonly after?: number;
}

/** The end of the chain. */
export interface ChainTail {
  readonly seq: number;
  readonly hash: string;
}

/** A signed end of the chain as it was written off this machine (`server/audit-checkpoint.ts`). */
export interface CheckpointRecord extends ChainTail {
  readonly at: number;
  /** One line of JSON, signature included. */
  readonly line: string;
}

export interface StoredCheckpoint {
  /** Rises by one with each. */
  readonly no: number;
  readonly line: string;
}

export interface AuditStore {
  /** Appends entries that belong to no other write. */
  recordAudit(entries: readonly AuditEntry[]): Promise<void>;
  /** Newest first: by time when only that narrows the list, else by number. With `after` oldest first. */
  listAudit(filter: AuditFilter): Promise<Page<AuditRow>>;
  /** Rows with seq > after, oldest first, at most `limit`: for verification and export. */
  readAuditChain(after: number, limit: number): Promise<readonly AuditRow[]>;
  /** The newest row's place; null while there is none. */
  auditTail(): Promise<ChainTail | null>;
  /** Keeps a checkpoint. It is about the log, not in it: no row. Throws AppError `internal` when the chain has no such row. */
  recordCheckpoint(checkpoint: CheckpointRecord): Promise<void>;
  /** Those with no > after, oldest first, at most `limit`. */
  listCheckpoints(after: number, limit: number): Promise<readonly StoredCheckpoint[]>;
}
