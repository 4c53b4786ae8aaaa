import { resolve } from "node:path";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import Database from "better-sqlite3";

/**
 * One service at a time on a database: two would both publish CRLs and answer from memories that differ. The lock is SQLite's own on an
 * empty file beside it, so that the kernel lets go of it when the process dies, however it dies, and other containers see it.
 * @throws AppError conflict when another process has it, issuer-unavailable when the disk does not let it be taken
 */
export async function lockDatabase(path: string): Promise<Disposable> {
  const file = `${resolve(path)}.lock`;
  await createFileExclusively(file, "", { mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw unusable(file, error);
  });
  const lock = open(file);
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch (cause) {
    lock.close();
    if ((cause as { readonly code?: unknown }).code !== "SQLITE_BUSY") throw unusable(file, cause);
    throw new AppError(
      "conflict",
      `Another process has the database ${path} open; stop it first (run.json beside it names its pid)`,
      { cause },
    );
  }
  return { [Symbol.dispose]: () => void lock.close() };
}

function open(file: string): Database.Database {
  try {
    return new Database(file, { fileMustExist: true, timeout: 0 });
  } catch (cause) {
    throw unusable(file, cause);
  }
}

function unusable(file: string, cause: unknown): AppError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AppError(
    "issuer-unavailable",
    `The database cannot be used: ${file}: ${why}. Is the disk full, or the directory not writable for this user?`,
    { cause },
  );
}
