import type { IssuanceRecord } from "../certificates.ts";
import type { JournalEvent, JournalStatus } from "../journal.ts";
import { journalSize } from "../journal/segments.ts";
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
import { journalPositions } from "./journal/position.ts";
import { lineageReads } from "./lineages.ts";
import { type Migration, migrate, readMigrations } from "./migrations.ts";
import { openJournal } from "./journal/open.ts";
import { operatorReads } from "./operators.ts";
import { pauseReads } from "./pauses.ts";
import { reportReads } from "./reports.ts";
import { restoreReads } from "./restores.ts";
import { retentionReads } from "./retention.ts";
import { revocationReads } from "./revocations.ts";
import { standingReads } from "./standings.ts";
import { unvouchedReads } from "./unvouched.ts";

export interface SqliteStoreOptions {
  /** The database file. */
  readonly path: string;
  /** Makes the file (0600) when there is none; its directory must exist. Without it a missing file is an error. */
  readonly create?: boolean;
  /** Called after each durable commit. */
  readonly onCommit?: (observation: CommitObservation) => void;
  /**
   * Directory of the journal that each write goes to before it is committed; null or absent: none. A database that has one and is written
   * to without it notes so, and at the next start with it the journal begins anew.
   */
  readonly journal?: string | null;
  readonly onJournal?: (event: JournalEvent) => void;
  /** The schema's steps; those shipped with the service unless given. */
  readonly migrations?: readonly Migration[];
}

/**
 * The store on SQLite: reads on this thread over a connection that cannot write, writes as commands to one writer thread that
 * commits in groups. Brings the schema up to date first. Dispose of it to finish what was begun and let the threads end.
 *
 * @throws Error when the file is missing, not Newleaf's, made by a newer version, or cannot be opened; AppError conflict when the journal
 * does not fit the database, issuer-unavailable when it cannot be used
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { path, onCommit = () => {}, onJournal = () => {} } = options;
  await ensureDatabaseFile(path, options.create === true);
  migrateFile(path, options.migrations ?? readMigrations());
  await using stack = new AsyncDisposableStack();
  const directory = options.journal ?? null;
  const journal = directory === null ? null : stack.use(await openJournal(path, directory, onJournal));
  const watch = journalWatch(onJournal);
  const writer = stack.use(
    await startGroupCommit({ path, journal: journal?.point ?? null }, { onCommit, onJournal: watch.observe }),
  );
  // The last connection to close moves the whole log into the file and removes it; one that cannot write could not.
  const reader = stack.adopt(openForReading(path), (connection) => void connection.close());
  const open = stack.move();
  return {
    ...storeReads(reader),
    ...storeWriters(writer),
    journalStatus: async () => (directory === null ? null : statusOf(reader, directory, watch.failure())),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** Says once that the journal cannot be written, and once that it can again. */
function journalWatch(onJournal: (event: JournalEvent) => void) {
  let failure: string | null = null;
  return {
    observe(now: string | null): void {
      const before = failure;
      failure = now;
      if (now !== null && before === null) onJournal({ kind: "failing", failure: now });
      if (now === null && before !== null) onJournal({ kind: "recovered" });
    },
    failure: () => failure,
  };
}

/** The writer's view of the directory, and what can be seen of it from here. */
async function statusOf(reader: Connection, directory: string, failure: string | null): Promise<JournalStatus | null> {
  const row = journalPositions(reader).read();
  if (row === null) return null;
  const position = { journal: row.journal, n: row.n, hash: row.hash };
  const status = { directory, position, base: row.base };
  try {
    return { ...status, failure, ...(await journalSize(directory)) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return {
      ...status,
      failure: failure ?? `The journal in ${directory} cannot be read (${why}).`,
      segments: 0,
      bytes: 0,
    };
  }
}

/** Brings a database that nobody has open up to date. @throws AppError conflict when a newer version made it */
export function migrateFile(path: string, migrations: readonly Migration[] = readMigrations()): void {
  const database = openForWriting(path);
  try {
    migrate(database, migrations, Date.now());
  } finally {
    database.close();
  }
}

function storeReads(reader: Connection): Omit<Store, WriteName | "journalStatus" | typeof Symbol.asyncDispose> {
  return {
    ...auditReads(reader),
    ...certificateReads(reader),
    ...enrollmentReads(reader),
    ...identityReads(reader),
    ...issuerReads(reader),
    ...lineageReads(reader),
    ...operatorReads(reader),
    ...pauseReads(reader),
    ...reportReads(reader),
    ...restoreReads(reader),
    ...retentionReads(reader),
    ...revocationReads(reader),
    ...standingReads(reader),
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
