/** The sealer thread: hashes and encrypts a backup's files, so that a large database does not keep the service from answering. */
import { parentPort, workerData } from "node:worker_threads";
import type { StoredFile } from "./manifest.ts";
import { digestFile, sealFile } from "./sealed-file.ts";

/** A file whose source is its target lies where it belongs: it is only hashed. */
export interface SealOrder {
  readonly recipients: readonly string[];
  readonly files: readonly { readonly name: string; readonly source: string; readonly target: string }[];
}

async function seal({ recipients, files }: SealOrder): Promise<readonly StoredFile[]> {
  const sealed: StoredFile[] = [];
  for (const { name, source, target } of files) {
    sealed.push({
      name,
      ...(source === target ? await digestFile(source) : await sealFile(source, target, recipients)),
    });
  }
  return sealed;
}

if (parentPort !== null) {
  const port = parentPort;
  port.postMessage(await seal(workerData as SealOrder));
  port.close();
}
