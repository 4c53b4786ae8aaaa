import { resolve } from "node:path";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import Database from "better-sqlite3";

/**
 * One service at a time on a database: two would both publish CRLs and answer from memories that differ. The lock is SQLite's own on an
 * empty file beside it, so that the kernel lets go of it when the process dies, however it dies, and other containers see it.
 * @throws AppError conflict when another process has it
 */
export async function lockDatabase(path: string): Promise<Disposable> {
  const file = `${resolve(path)}.lock`;
  await createFileExclusively(file, "", { mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  const lock = new Database(file, { fileMustExist: true, timeout: 0 });
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch (cause) {
    lock.close();
    throw new AppError(
      "conflict",
      `Another process has the database ${path} open; stop it first (run.json beside it names its pid)`,
      { cause },
    );
  }
  return { [Symbol.dispose]: () => void lock.close() };
}
