/** A host's side of the protocol in a few lines, for tests of the service: keys, requests and mTLS calls without the agent. */
import type { KeyObject } from "node:crypto";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { requestJson, type HttpResponse } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames, type Names } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import type { TestService } from "./service.ts";

export interface Host {
  readonly key: KeyObject;
  readonly answer: CertificateAnswer;
}

export function csrFor(key: KeyObject, names: Partial<Names> = {}): string {
  return pemEncode("CERTIFICATE REQUEST", createCsr({ key, names: { ...noNames, ...names } }));
}

export function newKey(): Promise<KeyObject> {
  return generateKey("ecdsa-p256");
}

type Listener = "agents" | "enrollment" | "admin";

/** Throws AppError for a problem. */
export function call(
  service: TestService,
  listener: Listener,
  method: "GET" | "POST" | "PATCH" | "DELETE",
  path: string,
  { host, body, headers = {} }: { host?: Host; body?: unknown; headers?: Readonly<Record<string, string>> } = {},
): Promise<HttpResponse> {
  return requestJson({
    url: service.urls[listener] + path,
    method,
    headers,
    tls: { ca: service.roots, ...(host === undefined ? {} : credentials(host)) },
    timeoutMs: 60_000,
    maxBytes: 10_000_000,
    ...(body === undefined ? {} : { body }),
  });
}

export function credentials(host: Host): { cert: string; key: string } {
  return {
    cert: host.answer.certificate + host.answer.chain,
    key: host.key.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

/** Enrolled by token, its leaf not yet used. */
export async function enrolled(service: TestService, identity: string, names: Partial<Names> = {}): Promise<Host> {
  const token = await service.token(identity, mutable(names));
  const key = await newKey();
  const { body } = await call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(key), token } });
  return { key, answer: body as CertificateAnswer };
}

/** Enrolled, and its leaf used: current. */
export async function settled(service: TestService, identity: string, names: Partial<Names> = {}): Promise<Host> {
  const host = await enrolled(service, identity, names);
  await use(service, host);
  return host;
}

/** Any authenticated request. */
export function use(service: TestService, host: Host): Promise<HttpResponse> {
  return call(service, "agents", "GET", "/v1/renewal-window", { host });
}

/** A new leaf for a new key, not yet used. */
export async function renew(service: TestService, host: Host, names: Partial<Names> = {}): Promise<Host> {
  const key = await newKey();
  const { body } = await call(service, "agents", "POST", "/v1/renewals", { host, body: { csr: csrFor(key, names) } });
  return { key, answer: body as CertificateAnswer };
}

function mutable(names: Partial<Names>): { dns: string[]; ip: string[]; uri: string[]; email: string[] } {
  const all = { ...noNames, ...names };
  return { dns: [...all.dns], ip: [...all.ip], uri: [...all.uri], email: [...all.email] };
}
