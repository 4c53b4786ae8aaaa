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
  /** JSON-serialisable facts, no secrets. */
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
  readonly action?: string;
  readonly target?: string;
  readonly after?: number;
  readonly before?: number;
}

export interface AuditStore {
  /** Appends entries that belong to no other write. */
  recordAudit(entries: readonly AuditEntry[]): Promise<void>;
  /** Newest first. */
  listAudit(filter: AuditFilter): Promise<Page<AuditRow>>;
  /** Rows with seq > after, oldest first, at most `limit`: for verification and export. */
  readAuditChain(after: number, limit: number): Promise<readonly AuditRow[]>;
}
