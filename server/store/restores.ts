import type { AuditEntry } from "./audit.ts";
import type { IssuanceRecord } from "./certificates.ts";
import type { CrlRecord } from "./issuers.ts";
import type { JournalPosition } from "./journal.ts";
import type { RevocationAct, RevocationRecord } from "./revocations.ts";
import type { Page, PageRequest } from "./store.ts";

/** What a copy of the store holds, read from the copy itself. */
export interface CopyFacts {
  /** Number of the newest migration. */
  readonly schema: number;
  /** Rows by table. */
  readonly tables: Readonly<Record<string, number>>;
  /** The end of the audit chain. */
  readonly audit: { readonly seq: number; readonly hash: string };
  /** Number of the newest CRL by issuer. */
  readonly crls: Readonly<Record<string, number>>;
  readonly bundleVersion: number;
  /** Up to where the journal is in this copy; null when none was kept. */
  readonly journal: JournalPosition | null;
  /** How often this authority was restored before. */
  readonly restores: number;
}

/** The last act of a restore, one transaction. */
export interface RestoreAct {
  readonly at: number;
  /** The journal told everything. If not, armed keys are disarmed too: which of them were spent since is not known. */
  readonly complete: boolean;
  /** What CRLs from elsewhere list: entries that are new here, or graver than what is known. */
  readonly revocations: readonly RevocationRecord[];
  /** Keys of the leaves among them that were compromised. */
  readonly blockKeys: readonly string[];
  /** CRLs newer than ours of issuers whose keys are elsewhere: they are taken as they are. */
  readonly crls: readonly CrlRecord[];
  /** The next CRL of each issuer gets a number above this. */
  readonly crlFloors: readonly { readonly issuerId: string; readonly number: number }[];
  /** The bundle in force is repeated with this version. */
  readonly bundleVersion: number;
  /** Facts for the record and for the audit row, which also gets what was voided. */
  readonly detail: Readonly<Record<string, unknown>>;
  readonly audit: AuditEntry;
}

/** How many open ones were made worthless. */
export interface Voided {
  readonly tokens: number;
  readonly requests: number;
  readonly grants: number;
  readonly armedKeys: number;
}

export interface RestoreRow {
  /** From 1. */
  readonly epoch: number;
  readonly at: number;
  readonly complete: boolean;
  readonly detail: Readonly<Record<string, unknown>>;
}

export type UnvouchedState = "open" | "adopted" | "revoked";

/** A leaf with the signature of one of our issuers that the store does not know. */
export interface UnvouchedRow {
  readonly serial: string;
  readonly issuerId: string;
  /** Its CN: a claim. */
  readonly identity: string;
  /** SPKI fingerprint. */
  readonly key: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly address: string;
  readonly firstSeenAt: number;
  readonly lastSeenAt: number;
  readonly state: UnvouchedState;
  readonly decidedBy: string | null;
  readonly decidedAt: number | null;
  readonly der: Uint8Array;
}

export type UnvouchedSight = Pick<
  UnvouchedRow,
  "serial" | "issuerId" | "identity" | "key" | "notBefore" | "notAfter" | "address" | "der"
>;

export interface RestoreStore {
  /**
   * A consistent copy of everything durable, as one closed file, made while writes go on. Resolves when it is whole on disk and SQLite
   * has found no fault in it.
   * @throws Error when it cannot be written or is damaged
   */
  copyTo(path: string): Promise<CopyFacts>;
  recordRestore(act: RestoreAct): Promise<Voided>;
  /** The latest of all, or of those that were `complete` or were not. */
  latestRestore(only?: Pick<RestoreRow, "complete">): Promise<RestoreRow | null>;
  /** What the issuer's next CRL is numbered: above the newest one here and above its floor. */
  nextCrlNumber(issuerId: string): Promise<number>;

  /**
   * Keeps the leaf, or that it was seen again. Resolves true when it is new. Those past their end are dropped on the way; not kept when
   * it is revoked already, or `max` are open.
   */
  noteUnvouched(sight: UnvouchedSight, at: number, max: number, audit: readonly AuditEntry[]): Promise<boolean>;
  /** Newest first. */
  listUnvouched(page: PageRequest & { readonly state?: UnvouchedState }): Promise<Page<UnvouchedRow>>;
  findUnvouched(serial: string): Promise<UnvouchedRow | null>;
  countOpenUnvouched(): Promise<number>;
  /** Records the leaf like one that was just issued. StaleBasis when it is no longer open or the basis moved. */
  adoptUnvouched(record: IssuanceRecord, by: string): Promise<void>;
  /** StaleBasis when it is no longer open. */
  revokeUnvouched(serial: string, act: RevocationAct, by: string, at: number): Promise<void>;
}
