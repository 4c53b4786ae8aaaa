/** Operators of each role with certificates of their own, and what they ask over kept mTLS connections: any answer is an answer. */
import { Agent, request } from "node:https";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { roles } from "../../server/authority/permissions.ts";
import type { Role } from "../../server/store/identities.ts";
import { call, credentials, csrFor, newKey } from "./agent-client.ts";
import { readFile } from "node:fs/promises";
import { operatorId, type TestService } from "./service.ts";

export interface AdminRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** Instead of the ones a client sends. */
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON, text as it is. */
  readonly body?: unknown;
}

export interface AdminAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** Of JSON and problems; else undefined. */
  readonly json: unknown;
}

export interface OperatorClient extends Disposable {
  readonly id: string;
  send(request: AdminRequest): Promise<AdminAnswer>;
}

/** One operator of each role; admin is the first operator. */
export async function operatorsOfEachRole(
  service: TestService,
): Promise<Readonly<Record<Role, OperatorClient>> & Disposable> {
  const made: Partial<Record<Role, OperatorClient>> = {};
  for (const role of roles.filter((name) => name !== "admin")) made[role] = await addOperator(service, role);
  const { viewer, approver, operator } = made;
  if (viewer === undefined || approver === undefined || operator === undefined) throw new Error("a role is missing");
  const admin = await firstOperator(service);
  const all = { viewer, approver, operator, admin };
  return {
    ...all,
    [Symbol.dispose]() {
      for (const client of Object.values(all)) client[Symbol.dispose]();
    },
  };
}

export async function firstOperator(service: TestService): Promise<OperatorClient> {
  const { chainFile, keyFile } = service.operator;
  return clientOf(service, operatorId, {
    cert: await readFile(chainFile, "utf8"),
    key: await readFile(keyFile, "utf8"),
  });
}

async function addOperator(service: TestService, role: Role): Promise<OperatorClient> {
  const id = `${role}@operators`;
  const { token } = await service.admin<{ token: string }>("POST", "/v1/operators", { id, role });
  const key = await newKey();
  const { body } = await call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(key), token } });
  return clientOf(service, id, credentials({ key, answer: body as CertificateAnswer }));
}

function clientOf(
  service: TestService,
  id: string,
  tls: { readonly cert: string; readonly key: string },
): OperatorClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 8, ca: service.roots, ...tls });
  return {
    id,
    send: (asked) => send(agent, service.urls.admin, asked),
    [Symbol.dispose]: () => agent.destroy(),
  };
}

function send(agent: Agent, base: string, { method, path, headers, body }: AdminRequest): Promise<AdminAnswer> {
  const payload = body === undefined ? undefined : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  const usual = {
    "x-newleaf-client": "test",
    ...(payload === undefined ? {} : { "content-type": "application/json" }),
  };
  const { promise, resolve, reject } = Promise.withResolvers<AdminAnswer>();
  // Written as it is: `new URL` would mend what is to be sent broken.
  const { hostname, port } = new URL(base);
  const asked = request(
    {
      agent,
      hostname,
      port,
      path,
      method,
      headers: {
        ...(headers ?? usual),
        ...(payload === undefined ? {} : { "content-length": String(payload.length) }),
      },
    },
    (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.once("error", reject);
      answer.once("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const isJson = /^application\/(problem\+)?json$/.test(answer.headers["content-type"] ?? "");
        const json: unknown = isJson ? JSON.parse(text) : undefined;
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, json });
      });
    },
  );
  asked.once("error", reject);
  asked.setTimeout(30_000, () => asked.destroy(new Error(`${method} ${path}: no answer within 30 s`)));
  asked.end(payload);
  return promise;
}
