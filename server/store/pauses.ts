import type { AuditEntry } from "./audit.ts";
import type { Page, PageRequest } from "./store.ts";

/** A client that is answered at once, because the same request was refused again and again. */
export interface PauseRow {
  /** What exactly is paused: a leaf at the gate, a leaf's renewals, or one request of it. */
  readonly subject: string;
  readonly identity: string;
  /** Of the presented leaf; null for an enrollment. */
  readonly serial: string | null;
  /** SPKI fingerprint of an enrollment's key; null for a leaf. */
  readonly key: string | null;
  /** Problem code it was refused with, and what the refusal said. */
  readonly code: string;
  readonly reason: string;
  /** What the refusals relied on; when it is no longer so, the pause says nothing. */
  readonly basis: string;
  readonly since: number;
  readonly until: number;
  readonly refusals: number;
  /** Where the last refused request came from. */
  readonly address: string;
}

export interface PauseStore {
  /** Those that stand at `now`, newest first. */
  listPauses(request: PageRequest & { readonly identity?: string; readonly now: number }): Promise<Page<PauseRow>>;
  /** One for each subject: a later one takes its place. Those that were over by its beginning are dropped on the way. */
  recordPause(pause: PauseRow, audit: readonly AuditEntry[]): Promise<void>;
  /** Of the identity, those that stand at `at`. Throws AppError `not-found` when there is none. Resolves to their subjects. */
  liftPauses(identity: string, at: number, audit: readonly AuditEntry[]): Promise<readonly string[]>;
}
