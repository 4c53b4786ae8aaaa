/** A client of the gateway: enrolls at the service, renews its own leaf, sends requests. */
import { type KeyObject, X509Certificate } from "node:crypto";
import { request as plainRequest } from "node:http";
import { connect, createSecureContext, type SecureContext, type TLSSocket } from "node:tls";
import { type CertificateAnswer, paths } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { requestJson } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import { renewalPoint } from "@newleaf/shared/renewal-point";
import { gatewayHost } from "./gateway.ts";
import type { DemoService } from "./service.ts";
import { pause } from "./wait.ts";

/** A leaf and what goes with it. */
export interface Holder {
  readonly identity: string;
  readonly serial: string;
  readonly fingerprint: string;
  /** PEM of leaf and intermediates, and of the key: TLS takes nothing else. */
  readonly chain: string;
  readonly key: string;
  /** Milliseconds since the epoch. */
  readonly renewAt: number;
  readonly context: SecureContext;
}

const timeoutMs = 10_000;
const maxBytes = 1_000_000;

/** First leaf, by a one-time token. */
export async function enroll(service: DemoService, identity: string, signal: AbortSignal): Promise<Holder> {
  await service.admin.post("/v1/identities", { id: identity, profile: "agent" });
  const { token } = await service.admin.post<{ token: string }>("/v1/tokens", { identity, ttl: "5m" });
  const key = await generateKey("ecdsa-p256");
  const { body } = await requestJson({
    url: new URL(paths.enrollments, service.enrollment),
    method: "POST",
    body: { csr: requestFor(key), token },
    tls: { ca: service.roots },
    timeoutMs,
    maxBytes,
    signal,
  });
  const holder = holderOf(service, body as CertificateAnswer, key);
  await useFirst(service, holder, signal);
  return holder;
}

/** The next leaf, with a new key, asked for with the present one. */
export async function renew(service: DemoService, holder: Holder, signal: AbortSignal): Promise<Holder> {
  const key = await generateKey("ecdsa-p256");
  const answer = await ask(service, holder, signal, { path: paths.renewals, body: { csr: requestFor(key) } });
  const next = holderOf(service, answer as CertificateAnswer, key);
  await useFirst(service, next, signal);
  return next;
}

/** Renews again and again, each time at the leaf's point in its window, until the signal ends it. */
export async function keepFresh(
  service: DemoService,
  first: Holder,
  use: (holder: Holder) => void,
  signal: AbortSignal,
): Promise<void> {
  let holder = first;
  while (!signal.aborted) {
    await pause(Math.max(0, holder.renewAt - Date.now()), signal);
    holder = await renew(service, holder, signal);
    use(holder);
  }
}

export interface GatewayAnswer {
  readonly status: number;
  /** Of the leaf the gateway presented, which was verified up to the root and for its name. */
  readonly fingerprint: string;
}

/** One request to the gateway on a connection of its own, no resumed session. Rejects when there was no answer. */
export async function knock(port: number, holder: Holder): Promise<GatewayAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<GatewayAnswer>();
  let socket: TLSSocket | undefined;
  const request = plainRequest({
    method: "GET",
    path: "/",
    headers: { host: gatewayHost, connection: "close" },
    createConnection: () =>
      (socket = connect({
        host: "127.0.0.1",
        port,
        servername: gatewayHost,
        secureContext: holder.context,
        rejectUnauthorized: true,
      })),
  });
  request.setTimeout(timeoutMs, () => request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
  request.on("error", reject);
  request.on("response", (response) => {
    const leaf = socket?.getPeerX509Certificate();
    response.on("error", reject).on("end", () => {
      if (leaf === undefined) reject(new Error("the gateway presented no certificate"));
      else resolve({ status: response.statusCode ?? 0, fingerprint: fingerprint(leaf.raw) });
    });
    response.resume();
  });
  request.end();
  return promise;
}

/** Any request with the leaf: the service answers, or throws why not. The renewal window is what a client may always ask for. */
export async function ask(
  service: DemoService,
  holder: Holder,
  signal: AbortSignal,
  what: { readonly path: string; readonly body?: unknown } = { path: paths.renewalWindow },
): Promise<unknown> {
  const { path, body } = what;
  const answer = await requestJson({
    url: new URL(path, service.agents),
    method: body === undefined ? "GET" : "POST",
    ...(body === undefined ? {} : { body }),
    tls: { ca: service.roots, cert: holder.chain, key: holder.key },
    timeoutMs,
    maxBytes,
    signal,
  });
  return answer.body;
}

/** A released leaf is pending until it is used; from then on its predecessor is superseded. */
async function useFirst(service: DemoService, holder: Holder, signal: AbortSignal): Promise<void> {
  await ask(service, holder, signal);
}

function requestFor(key: KeyObject): string {
  return pemEncode("CERTIFICATE REQUEST", createCsr({ key }));
}

function holderOf(service: DemoService, answer: CertificateAnswer, privateKey: KeyObject): Holder {
  const { identity, serial, renewal } = answer;
  const chain = answer.certificate + answer.chain;
  const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const window = { start: Date.parse(renewal.start), end: Date.parse(renewal.end) };
  return {
    identity,
    serial,
    fingerprint: fingerprint(new X509Certificate(answer.certificate).raw),
    chain,
    key,
    renewAt: renewalPoint(window, identity),
    context: createSecureContext({ ca: service.roots, cert: chain, key, minVersion: "TLSv1.2" }),
  };
}
