/**
 * The copier thread: one consistent copy of the database, then it ends. One read transaction spans the copy, so that it shows one
 * moment however long it takes; writers go on meanwhile, and the log grows until it is done.
 */
import { closeSync, fsyncSync, openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import Database from "better-sqlite3";
import type { CopyFacts } from "../restores.ts";
import { findFault, readCopyFacts } from "./copy-facts.ts";
import { openForReading } from "./database.ts";

export interface CopyOrder {
  readonly source: string;
  readonly target: string;
}

/** Pages (4 KB) copied between two looks at whether to go on. */
const pagesAtOnce = 4096;

async function copy({ source, target }: CopyOrder): Promise<CopyFacts> {
  const database = openForReading(source);
  try {
    // Without it a commit of the writer's between two steps would make SQLite begin the copy anew, for ever under load.
    database.exec("BEGIN");
    database.prepare("SELECT count(*) FROM sqlite_schema").get();
    await database.backup(target, { progress: () => pagesAtOnce });
    database.exec("COMMIT");
  } finally {
    database.close();
  }
  closeUp(target);
  const fault = findFault(target);
  if (fault !== null) throw new Error(`The copy of the database is damaged, and so may the database be: ${fault}`);
  return readCopyFacts(target);
}

/** One file, whole without a log beside it, and on disk. */
function closeUp(path: string): void {
  const database = new Database(path, { fileMustExist: true });
  try {
    database.pragma("journal_mode = DELETE");
  } finally {
    database.close();
  }
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

if (parentPort !== null) {
  const port = parentPort;
  port.postMessage(await copy(workerData as CopyOrder));
  port.close();
}
