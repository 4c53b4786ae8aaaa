/** The operator's certificate keeps itself alive: after two thirds of its life the command line renews it before it does its work. */
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { paths } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import type { HttpResponse } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import { type OperatorFiles, readNextKey, readOperatorFiles, switchToNext, writeNextKey } from "./operator-files.ts";

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
  const release = await lock(files.directory);
  if (release === null) return files;
  try {
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
  } finally {
    release();
  }
}

/** A socket name is a lock that the kernel releases with the process: an abstract one on Linux, elsewhere a file. Null when it is held. */
async function lock(directory: string): Promise<(() => void) | null> {
  const name = createHash("sha256").update(resolve(directory)).digest("hex").slice(0, 32);
  const path = process.platform === "linux" ? `\0newleaf-operator-${name}` : join(directory, "renewing.sock");
  const server = createServer();
  const { promise, resolve: settle, reject } = Promise.withResolvers<(() => void) | null>();
  server.once("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EADDRINUSE") settle(null);
    else reject(error);
  });
  server.listen(path, () => settle(() => void server.close()));
  return promise;
}
