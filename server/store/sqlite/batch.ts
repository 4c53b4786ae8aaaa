import { AppError, isProblemCode } from "@newleaf/shared/problems";
import { StaleBasis } from "../store.ts";
import { batchJournal, withoutJournal } from "./journal/batch.ts";
import type { Command, WriteContext, Writes } from "./commands.ts";
import { prepare } from "./database.ts";

/** An error on its way between threads: what a caller may act on, without its class. */
export interface WireError {
  readonly kind: "AppError" | "StaleBasis" | "Error";
  readonly message: string;
  readonly code?: string;
  readonly retryAfterSeconds?: number;
}

/** What became of a batch's commands, by index; a command in neither list is done and has no result. */
export interface BatchOutcome {
  readonly values: (readonly [number, unknown])[];
  readonly failures: (readonly [number, WireError])[];
  /** How long COMMIT took, the journal and every fsync included. */
  readonly seconds: number;
}

/**
 * Runs commands in one transaction, in order, each in a savepoint of its own: one that throws undoes only itself. When it returns,
 * everything that did not fail is durable. The order must not change: nothing is committed before the journal has it, and nothing is
 * reported done before COMMIT has returned.
 *
 * @throws what SQLite threw when the transaction as a whole could not be (disk full, I/O error), JournalFault when the journal could
 * not be written; then nothing of it was
 */
export function batchRunner(context: WriteContext, writes: Writes): (commands: readonly Command[]) => BatchOutcome {
  const { database, audit } = context;
  const journal = context.journal === null ? withoutJournal(context) : batchJournal(context, context.journal);
  const begin = prepare(database, "BEGIN IMMEDIATE");
  const commit = prepare(database, "COMMIT");
  const rollback = prepare(database, "ROLLBACK");
  const save = prepare(database, "SAVEPOINT command");
  const release = prepare(database, "RELEASE command");
  const undo = prepare(database, "ROLLBACK TO command");

  const runOne = (command: Command): unknown => {
    const tail = audit.tail();
    save.run();
    try {
      const result = perform(writes, command);
      release.run();
      return result;
    } catch (error) {
      // SQLite itself ends the whole transaction after some errors (SQLITE_FULL, SQLITE_IOERR): then all of the batch is gone.
      if (!database.inTransaction) throw new TransactionLost(error);
      undo.run();
      release.run();
      audit.rewind(tail);
      throw error;
    }
  };

  return (commands) => {
    const values: (readonly [number, unknown])[] = [];
    const failures: (readonly [number, WireError])[] = [];
    const spelled: string[] = [];
    let undoLine: (() => void) | null = null;
    try {
      begin.run();
      audit.begin();
      for (const [index, command] of commands.entries()) {
        try {
          const text = journal.spell(command);
          const value = runOne(command);
          if (text !== null) spelled.push(text);
          if (value !== undefined) values.push([index, value]);
        } catch (error) {
          if (error instanceof TransactionLost) throw error.cause;
          failures.push([index, toWireError(error)]);
        }
      }
      const started = process.hrtime.bigint();
      undoLine = journal.seal(spelled, audit.tail());
      commit.run();
      return { values, failures, seconds: Number(process.hrtime.bigint() - started) / 1e9 };
    } catch (error) {
      if (database.inTransaction) rollback.run();
      undoLine?.();
      throw error;
    }
  };
}

export function toWireError(error: unknown): WireError {
  if (error instanceof AppError) {
    return {
      kind: "AppError",
      message: error.message,
      code: error.code,
      ...(error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds }),
    };
  }
  if (error instanceof StaleBasis) return { kind: "StaleBasis", message: error.message };
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
  return { kind: "Error", message, ...(code === undefined ? {} : { code }) };
}

export function fromWireError(error: WireError): Error {
  if (error.kind === "StaleBasis") return new StaleBasis(error.message);
  if (error.kind === "AppError" && isProblemCode(error.code)) {
    const { retryAfterSeconds } = error;
    return new AppError(error.code, error.message, retryAfterSeconds === undefined ? {} : { retryAfterSeconds });
  }
  return new Error(`The store could not write: ${error.message}${error.code === undefined ? "" : ` (${error.code})`}`);
}

class TransactionLost extends Error {
  constructor(cause: unknown) {
    super("SQLite ended the transaction", { cause });
  }
}

/** Runs one command, in the transaction that is open. */
export function perform(writes: Writes, [name, given]: Command): unknown {
  // Each name's arguments are its own method's (see `Command`); the union of the pairs is what TypeScript cannot follow.
  return (writes[name] as (...given: readonly unknown[]) => unknown)(...given);
}
