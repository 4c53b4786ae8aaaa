/** The operator's certificate keeps itself alive: after two thirds of its life the command line renews it before it does its work. */
import type { CertificateAnswer } from "@newleaf/shared/api";
import { paths } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import type { HttpResponse } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import { LockTakenError, takeProcessLock } from "@newleaf/shared/process-lock";
import { type OperatorFiles, readNextKey, readOperatorFiles, switchToNext, writeNextKey } from "./files.ts";

/** POSTs a body to a path of the agents listener as the holder of these files. */
export type AgentsPost = (files: OperatorFiles, path: string, body: unknown) => Promise<HttpResponse>;

const renewAt = 2 / 3;

/** True from two thirds of the leaf's life on. */
export function isRenewalDue(leaf: OperatorFiles["leaf"], now: number): boolean {
  const from = leaf.validFromDate.getTime();
  const to = leaf.validToDate.getTime();
  return now >= from + (to - from) * renewAt;
}

/**
 * Renews and resolves to the new pair; to the present one when another command is renewing it right now.
 *
 * 1. One at a time: two renewals with different keys would replace one another, and a replaced leaf that is used locks the lineage.
 * 2. The new key is durable before it is sent. A crash or a lost answer is asked again with the same key: the same leaf comes back.
 * 3. Key and chain are switched in one rename. The first request with the new leaf is its first use.
 *
 * @throws AppError, NetworkError: the present pair is untouched
 */
export async function renewOperator(files: OperatorFiles, post: AgentsPost): Promise<OperatorFiles> {
  await using held = await lock(files.directory);
  if (held === null) return files;
  // Another command may have renewed since these were read: a second renewal with the old leaf would look like theft.
  const present = await readOperatorFiles(files.directory);
  if (!present.leaf.raw.equals(files.leaf.raw)) return present;
  let key = await readNextKey(files.directory);
  if (key === null) {
    key = await generateKey("ecdsa-p256");
    await writeNextKey(files.directory, key);
  }
  const csr = pemEncode("CERTIFICATE REQUEST", createCsr({ key }));
  const { body } = await post(files, paths.renewals, { csr });
  const answer = body as CertificateAnswer;
  await switchToNext(files.directory, answer.certificate + answer.chain);
  return await readOperatorFiles(files.directory);
}

/** Null when another command is renewing the same operator's certificate. */
async function lock(directory: string): Promise<AsyncDisposable | null> {
  try {
    return await takeProcessLock(directory, "renewing", `a newleaf command (pid ${process.pid})`);
  } catch (error) {
    if (error instanceof LockTakenError) return null;
    throw error;
  }
}
