import type { IssuanceRecord } from "../certificates.ts";
import type { Store } from "../store.ts";
import { auditReads } from "./audit.ts";
import { certificateReads } from "./certificates.ts";
import { type Command, type WriteName, writeNames } from "./commands.ts";
import { copyDatabase } from "./copy.ts";
import { type Connection, ensureDatabaseFile, openForReading, openForWriting } from "./database.ts";
import { enrollmentReads } from "./enrollments.ts";
import { type CommitObservation, type GroupCommit, startGroupCommit } from "./group-commit.ts";
import { identityReads } from "./identities.ts";
import { issuerReads } from "./issuers.ts";
import { lineageReads } from "./lineages.ts";
import { type Migration, migrate, readMigrations } from "./migrations.ts";
import { operatorReads } from "./operators.ts";
import { reportReads } from "./reports.ts";
import { restoreReads } from "./restores.ts";
import { revocationReads } from "./revocations.ts";
import { unvouchedReads } from "./unvouched.ts";

export interface SqliteStoreOptions {
  /** The database file. */
  readonly path: string;
  /** Makes the file (0600) when there is none; its directory must exist. Without it a missing file is an error. */
  readonly create?: boolean;
  /** Called after each durable commit. */
  readonly onCommit?: (observation: CommitObservation) => void;
  /** The schema's steps; those shipped with the service unless given. */
  readonly migrations?: readonly Migration[];
}

/**
 * The store on SQLite: reads on this thread over a connection that cannot write, writes as commands to one writer thread that
 * commits in groups. Brings the schema up to date first. Dispose of it to finish what was begun and let the threads end.
 *
 * @throws Error when the file is missing, not Newleaf's, made by a newer version, or cannot be opened
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { path } = options;
  await ensureDatabaseFile(path, options.create === true);
  migrateFile(path, options.migrations ?? readMigrations());
  const writer = await startGroupCommit(path, options.onCommit ?? (() => {}));
  try {
    const reader = openForReading(path);
    return {
      ...storeReads(reader),
      ...storeWriters(writer),
      async [Symbol.asyncDispose]() {
        // The last connection to close moves the whole log into the file and removes it; one that cannot write could not.
        reader.close();
        await writer[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await writer[Symbol.asyncDispose]();
    throw error;
  }
}

function migrateFile(path: string, migrations: readonly Migration[]): void {
  const database = openForWriting(path);
  try {
    migrate(database, migrations, Date.now());
  } finally {
    database.close();
  }
}

function storeReads(reader: Connection): Omit<Store, WriteName | typeof Symbol.asyncDispose> {
  return {
    ...auditReads(reader),
    ...certificateReads(reader),
    ...enrollmentReads(reader),
    ...identityReads(reader),
    ...issuerReads(reader),
    ...lineageReads(reader),
    ...operatorReads(reader),
    ...reportReads(reader),
    ...restoreReads(reader),
    ...revocationReads(reader),
    ...unvouchedReads(reader),
    copyTo: (target) => copyDatabase(reader.name, target),
  };
}

function storeWriters(writer: GroupCommit): Pick<Store, WriteName> {
  const send = (name: WriteName) => [name, (...given: unknown[]) => writer.submit([name, given] as unknown as Command)];
  const writers = Object.fromEntries(writeNames.map(send)) as Pick<Store, WriteName>;
  return { ...writers, recordIssuance: (record) => writers.recordIssuance(withOwnBytes(record)) };
}

/** A slice of Buffer's pool would take the whole pool, 64 KB, along to the other thread. */
function withOwnBytes(record: IssuanceRecord): IssuanceRecord {
  const { der } = record.certificate;
  if (der.byteLength === der.buffer.byteLength) return record;
  return { ...record, certificate: { ...record.certificate, der: new Uint8Array(der) } };
}
