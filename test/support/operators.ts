/** People beside the first operator: made through the API, each with a certificate and a client of their own. */
import type { CertificateAnswer } from "@newleaf/shared/api";
import { systemCaller } from "../../server/authority/authority.ts";
import { certificateAnswer } from "../../server/authority/issue.ts";
import { rescueOperator } from "../../server/authority/inventory/operators.ts";
import type { Role } from "../../server/store/identities.ts";
import { call, csrFor, type Host, newKey } from "./agent-client.ts";
import type { TestService } from "./service.ts";

export interface Person {
  readonly id: string;
  readonly host: Host;
  /** A call of the admin API as this operator; throws AppError for a problem. */
  ask<T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T>;
}

/** An operator with a certificate in use. */
export async function person(service: TestService, id: string, role: Role): Promise<Person> {
  const { token } = await service.admin<{ token: string }>("POST", "/v1/operators", { id, role });
  const key = await newKey();
  const { body } = await call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(key), token } });
  return speaker(service, id, { key, answer: body as CertificateAnswer });
}

/** An admin who was not approved by anybody: as a rescue makes one, while the service runs. */
export async function anotherAdmin(service: TestService, id: string): Promise<Person> {
  const key = await newKey();
  const { authority } = service.server;
  const hostUser = { name: "test", uid: 0 };
  const leaf = await rescueOperator(authority, systemCaller("test"), { id, role: "admin", csr: csrFor(key), hostUser });
  const answer = certificateAnswer(authority, leaf, { start: leaf.renewalStart, end: leaf.renewalEnd });
  return speaker(service, id, { key, answer });
}

async function speaker(service: TestService, id: string, host: Host): Promise<Person> {
  const somebody: Person = {
    id,
    host,
    async ask<T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> {
      const headers = { "x-newleaf-client": "test" };
      const more = body === undefined ? {} : { body };
      return (await call(service, "admin", method, path, { host, headers, ...more })).body as T;
    },
  };
  await somebody.ask("GET", `/v1/operators/${id}`);
  return somebody;
}
