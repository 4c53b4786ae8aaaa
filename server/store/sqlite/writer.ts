/**
 * The writer thread: the only one that writes, so commits can be shared without anybody waiting for a lock. While an fsync runs,
 * requests queue up here; the next transaction takes them all. Throughput then hardly depends on how slow the disk is.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { type BatchOutcome, batchRunner, toWireError, type WireError } from "./batch.ts";
import { type Command, storeWrites, writeContext } from "./commands.ts";
import { checkpoint, type CheckpointResult, openForWriting } from "./database.ts";
import { type AppendPoint, openAppender } from "../journal/appender.ts";

/** To the writer: commands of one tick, `checkpoint` (finish what the checkpointer left), or `close` (finish and end). */
export type WriterMessage = readonly Command[] | "checkpoint" | "close";

/** From the writer: `ready`, then one answer for each `commands` of it, in order. `failed`: none of them was written. */
export type WriterReply =
  | "ready"
  | (BatchOutcome & WriterState & { readonly log: CheckpointResult })
  | (WriterState & { readonly failed: WireError });

interface WriterState {
  readonly commands: number;
  /** Why the journal cannot be written; null when it can, or when there is none. */
  readonly journalFailure: string | null;
}

export interface WriterData {
  readonly path: string;
  readonly journal: AppendPoint | null;
}

/** Commands in one transaction: bounds how long the first of them waits for the last. */
const maxBatch = 2000;

function main(port: MessagePort, { path, journal: point }: WriterData): void {
  const database = openForWriting(path);
  const journal = point === null ? null : openAppender(point);
  const context = writeContext(database, journal);
  const run = batchRunner(context, storeWrites(context));
  const reply = (message: WriterReply) => port.postMessage(message);

  const commit = (commands: readonly Command[]): void => {
    let outcome: BatchOutcome;
    try {
      outcome = run(commands);
    } catch (error) {
      reply({ ...stateAfter(commands), failed: toWireError(error) });
      // If the disk is full: what the log holds may fit into the file, and then the log's space is free for the next commit.
      tryCheckpoint();
      return;
    }
    reply({ ...outcome, ...stateAfter(commands), log: checkpoint(database, "NOOP") });
  };
  const stateAfter = (commands: readonly Command[]): WriterState => ({
    commands: commands.length,
    journalFailure: journal?.failure() ?? null,
  });

  port.on("message", (first: WriterMessage) => {
    const commands: Command[] = [];
    let message: WriterMessage | undefined = first;
    let finish = false;
    let close = false;
    while (message !== undefined) {
      if (message === "close") close = true;
      else if (message === "checkpoint") finish = true;
      else commands.push(...message);
      message =
        commands.length < maxBatch ? (receiveMessageOnPort(port)?.message as WriterMessage | undefined) : undefined;
    }
    if (commands.length > 0) commit(commands);
    if (finish) tryCheckpoint();
    if (close) {
      database.close();
      journal?.[Symbol.dispose]();
      port.close();
    }
  });
  reply("ready");

  function tryCheckpoint(): void {
    try {
      checkpoint(database, "PASSIVE");
    } catch {
      // The log holds everything and will be moved another time; whatever is wrong with the disk, the next commit says.
    }
  }
}

if (parentPort !== null) main(parentPort, workerData as WriterData);
