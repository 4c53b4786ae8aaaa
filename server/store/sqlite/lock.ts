import { join, resolve } from "node:path";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import Database from "better-sqlite3";

/**
 * One service at a time on a database: two would both publish CRLs and answer from memories that differ. The lock is SQLite's own on an
 * empty file beside it, so that the kernel lets go of it when the process dies, however it dies, and other containers see it.
 * @throws AppError conflict when another process has it, issuer-unavailable when the disk does not let it be taken
 */
export async function lockDatabase(path: string): Promise<Disposable> {
  return lockFile(
    `${resolve(path)}.lock`,
    "The database",
    `Another process has the database ${path} open; stop it first (run.json beside it names its pid)`,
  );
}

/**
 * One service at a time on a journal, also from another host where the file system knows locks (NFS 4 does, and lets go of those of a dead host).
 * @throws AppError conflict when another process has it, issuer-unavailable when the disk does not let it be taken
 */
export async function lockJournal(directory: string): Promise<Disposable> {
  return lockFile(
    join(directory, "journal.lock"),
    "The journal",
    `Another process writes to the journal in ${directory}, on this host or another; each service has a directory of its own, and a restored copy waits until the old service has stopped`,
  );
}

async function lockFile(file: string, what: string, taken: string): Promise<Disposable> {
  await createFileExclusively(file, "", { mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw unusable(what, file, error);
  });
  const lock = open(what, file);
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch (cause) {
    lock.close();
    if ((cause as { readonly code?: unknown }).code !== "SQLITE_BUSY") throw unusable(what, file, cause);
    throw new AppError("conflict", taken, { cause });
  }
  return { [Symbol.dispose]: () => void lock.close() };
}

function open(what: string, file: string): Database.Database {
  try {
    return new Database(file, { fileMustExist: true, timeout: 0 });
  } catch (cause) {
    throw unusable(what, file, cause);
  }
}

function unusable(what: string, file: string, cause: unknown): AppError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AppError(
    "issuer-unavailable",
    `${what} cannot be used: ${file}: ${why}. Is the disk full, or the directory not writable for this user?`,
    { cause },
  );
}
