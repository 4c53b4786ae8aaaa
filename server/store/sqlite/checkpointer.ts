/**
 * The checkpointer thread: moves pages from the write-ahead log into the database file and fsyncs that, while the writer goes on
 * committing. It is started when the log first grows and asked again whenever it has.
 */
import { parentPort, workerData } from "node:worker_threads";
import { checkpoint, type CheckpointResult, openForWriting } from "./database.ts";

/** Answer to each request (whose content does not matter): how far it came, or null when it could not. */
export type CheckpointerReply = CheckpointResult | null;

if (parentPort !== null) {
  const port = parentPort;
  const database = openForWriting((workerData as { readonly path: string }).path);
  port.on("message", (message: "run" | "close") => {
    if (message === "close") {
      database.close();
      port.close();
      return;
    }
    let reply: CheckpointerReply = null;
    try {
      reply = checkpoint(database, "PASSIVE");
    } catch {
      // The log holds everything; the next request tries again.
    }
    port.postMessage(reply);
  });
}
