import { once } from "node:events";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import type { CopyFacts } from "../restores.ts";
import type { CopyOrder } from "./copier.ts";

/**
 * Copies the database while it is in use, in a thread of its own.
 * @param target must not be there; made 0600
 * @throws Error when it cannot be written, or the copy is damaged
 */
export async function copyDatabase(source: string, target: string): Promise<CopyFacts> {
  // SQLite would make it with the mode that the umask leaves.
  await createFileExclusively(target, "", { mode: 0o600 });
  const url = new URL(`./copier${extname(import.meta.filename)}`, import.meta.url);
  const worker = new Worker(url, { name: "newleaf-copier", workerData: { source, target } satisfies CopyOrder });
  const exited = once(worker, "exit");
  const [facts] = (await once(worker, "message")) as [CopyFacts];
  await exited;
  return facts;
}
