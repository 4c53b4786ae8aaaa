/** Backups as an operator and the schedule ask for them. How they are made is `server/backup`; this is who did it, and the record. */
import { isAbsolute } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import type { JournalPosition } from "../store/journal.ts";
import { auditEntry, type Authority, type Caller } from "./authority.ts";

export interface BackupSummary {
  /** Its directory's name: the moment, in UTC. */
  readonly name: string;
  readonly path: string;
  readonly createdAt: number;
  /** Of Newleaf. */
  readonly version: string;
  readonly schema: number;
  /** Octets of all its files. */
  readonly size: number;
  readonly encrypted: boolean;
  readonly holdsKeys: boolean;
  readonly certificates: number;
  /** The end of the audit chain in it. */
  readonly audit: { readonly seq: number; readonly hash: string };
  /** Number of the newest CRL by issuer. */
  readonly crls: Readonly<Record<string, number>>;
  readonly bundleVersion: number;
  /** From where a restore replays the journal; null when there was none. */
  readonly journal: JournalPosition | null;
}

export interface BackupRequest {
  /** Absolute; the configured one unless given. */
  readonly directory?: string;
  /** age recipients; the configured ones unless given. */
  readonly recipients?: readonly string[];
}

/** What makes and knows backups: given by the composition root. */
export interface Backups {
  make(request: BackupRequest): Promise<BackupSummary>;
  /** Those in the configured directory, newest first. */
  list(): Promise<readonly BackupSummary[]>;
  /** When the newest one in the configured directory was made; null when there is none. */
  lastSuccessAt(): number | null;
}

/**
 * Makes a backup now. Resolves when it is complete and on disk.
 * @throws AppError request-invalid (directory, recipients), conflict (another is being made), internal (disk)
 */
export async function createBackup(
  authority: Authority,
  caller: Caller,
  request: BackupRequest = {},
): Promise<BackupSummary> {
  if (request.directory !== undefined && !isAbsolute(request.directory)) {
    throw new AppError("request-invalid", "The directory of a backup is an absolute path on the service's host");
  }
  try {
    const made = await authority.backups.make(request);
    caller.target = made.name;
    const { name, path, size, encrypted, holdsKeys, audit } = made;
    const detail = { path, size, encrypted, holdsKeys, auditSeq: audit.seq };
    await authority.store.recordAudit([auditEntry(caller, authority.clock.now(), "backup.created", name, detail)]);
    authority.events.backedUp(made);
    const last = authority.backups.lastSuccessAt();
    if (last !== null) authority.events.backupStands(last);
    return made;
  } catch (error) {
    authority.events.backupFailed(error);
    throw error;
  }
}
