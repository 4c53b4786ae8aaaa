import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import Database from "better-sqlite3";

export type Connection = Database.Database;

/** How long a connection waits for another process's write before it gives up, milliseconds. */
const busyTimeoutMs = 5000;

/**
 * Makes an empty database file, 0600 and durable, if there is none and `create` says so.
 *
 * @throws Error when there is none and `create` is false
 */
export async function ensureDatabaseFile(path: string, create: boolean): Promise<void> {
  if (existsSync(path)) return;
  if (!create) {
    throw new Error(
      `There is no database at ${path}. Make a data directory with "newleaf init", or name the right one with --data.`,
    );
  }
  if (!existsSync(dirname(path))) throw new Error(`The directory ${dirname(path)} for the database does not exist.`);
  // SQLite gives its -wal and -shm files the mode of this one, and does not itself fsync the directory that gains it.
  await createFileExclusively(path, "", { mode: 0o600 });
}

/**
 * The connection that writes. Nothing is acknowledged before fsync (WAL with synchronous=FULL), foreign keys hold, and REPLACE
 * fires delete triggers. Checkpoints are somebody else's work: at the default of every 1,000 pages they put 4 to 10 ms into commits.
 */
export function openForWriting(path: string): Connection {
  const database = new Database(path, { fileMustExist: true, timeout: busyTimeoutMs });
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.pragma("foreign_keys = ON");
  database.pragma("recursive_triggers = ON");
  database.pragma("trusted_schema = OFF");
  // Each command is a savepoint: with the journals of its statements in temporary files an insert costs twice as much.
  database.pragma("temp_store = MEMORY");
  database.pragma("wal_autocheckpoint = 0");
  database.pragma("cache_size = -16384");
  return database;
}

/** A connection that cannot write. The database must have been opened for writing before, so that its -shm file is there. */
export function openForReading(path: string): Connection {
  const database = new Database(path, { readonly: true, fileMustExist: true, timeout: busyTimeoutMs });
  database.pragma("query_only = ON");
  database.pragma("trusted_schema = OFF");
  database.pragma("cache_size = -16384");
  return database;
}

/**
 * A statement that is planned once. The parameters are hidden from the planner behind a unary plus, which changes no value:
 * this SQLite has STAT4, and there a parameter whose value might make another plan better has the whole statement prepared
 * again at each use (a join by serial: 31 µs instead of 6).
 */
export function prepare<Parameters extends unknown[] = unknown[], Row = unknown>(
  database: Connection,
  sql: string,
): Database.Statement<Parameters, Row> {
  return database.prepare<Parameters, Row>(sql.replaceAll("?", "+?"));
}

/** Moves pages from the write-ahead log into the database file, as far as no reader is in the way. */
export interface CheckpointResult {
  /** Pages in the log, and how many of them are in the database file by now. */
  readonly logPages: number;
  readonly checkpointed: number;
}

/**
 * `PASSIVE` moves what it can without making anybody wait; `NOOP` only looks.
 */
export function checkpoint(database: Connection, mode: "PASSIVE" | "NOOP"): CheckpointResult {
  const [row] = database.pragma(`wal_checkpoint(${mode})`) as { log: number; checkpointed: number }[];
  return { logPages: row?.log ?? 0, checkpointed: row?.checkpointed ?? 0 };
}
