import { request } from "node:https";
import type { TLSSocket } from "node:tls";
import { fingerprint } from "../../shared/fingerprint.ts";
import { certificatePem, keyPem, type TestLeaf } from "./test-ca.ts";

export interface ClientAnswer {
  readonly status: number;
  /** Of the leaf that the server presented. */
  readonly fingerprint: string;
}

/**
 * One GET over a connection of its own, verified for localhost against `root`, as a client with this certificate.
 * Rejects when handshake or request fails.
 */
export function getOnce(
  port: number,
  root: Buffer,
  client?: { leaf: TestLeaf; chain: readonly Buffer[] },
): Promise<ClientAnswer> {
  const own =
    client === undefined
      ? {}
      : { key: keyPem(client.leaf.key), cert: certificatePem(client.leaf.certificate, ...client.chain) };
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: "127.0.0.1",
        port,
        servername: "localhost",
        agent: false,
        ca: certificatePem(root),
        timeout: 5000,
        ...own,
      },
      (answer) => {
        const leaf = (answer.socket as TLSSocket).getPeerX509Certificate();
        const seen = leaf === undefined ? "none" : fingerprint(leaf.raw);
        answer.resume().once("end", () => resolve({ status: answer.statusCode ?? 0, fingerprint: seen }));
        answer.once("error", reject);
      },
    );
    asked.once("timeout", () => asked.destroy(new Error("no answer within 5 s")));
    asked.once("error", reject);
    asked.end();
  });
}
