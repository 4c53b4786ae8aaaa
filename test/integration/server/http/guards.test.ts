/** Before every operation of the admin API, cell by cell: the permission matrix, and the guard against requests from other sites. */
import assert from "node:assert/strict";
import { request } from "node:https";
import { after, before, describe, it } from "node:test";
import { acts, roles } from "../../../../server/authority/permissions.ts";
import type { Operation } from "../../../../server/http/admin/operation.ts";
import { operations } from "../../../../server/http/admin/operations.ts";
import type { Role } from "../../../../server/store/identities.ts";
import {
  type AdminAnswer,
  type AdminRequest,
  type OperatorClient,
  operatorsOfEachRole,
} from "../../../support/admin-clients.ts";
import { credentials } from "../../../support/agent-client.ts";
import { person } from "../../../support/operators.ts";
import { startService, type TestService } from "../../../support/service.ts";

let service: TestService;
let operators: Readonly<Record<Role, OperatorClient>> & Disposable;

const changing = operations.filter(({ method }) => method !== "get");

/** Reaches the operation, and there nothing it is about. */
function requestOf({ method, path, body }: Operation): AdminRequest {
  return {
    method: method.toUpperCase(),
    path: path.replaceAll(/\{\w+\}/g, "none-such"),
    ...(body === undefined ? {} : { body: { noSuchField: true } }),
  };
}

const codeOf = ({ json }: AdminAnswer): string | undefined => (json as { code?: string } | undefined)?.code;

describe("an operation of the admin API", () => {
  before(async () => {
    service = await startService();
    operators = await operatorsOfEachRole(service);
  });
  after(async () => {
    operators[Symbol.dispose]();
    await service[Symbol.asyncDispose]();
  });

  it("is there for the role that the matrix says and those above it, and for nobody below", async () => {
    const cells: string[] = [];
    for (const declared of operations) {
      for (const role of roles) {
        const may = roles.indexOf(role) >= roles.indexOf(acts[declared.act]);
        const answer = await operators[role].send(requestOf(declared));
        const isRefused = answer.status === 403 && codeOf(answer) === "not-permitted";
        if (isRefused === may) cells.push(`${declared.id} as ${role}: ${answer.status} ${answer.text.slice(0, 200)}`);
      }
    }
    assert.deepEqual(cells, []);
  });

  for (const [what, change] of [
    ["was lifted", (id: string) => service.admin("PATCH", `/v1/operators/${id}`, { role: "viewer" })],
    ["went with the operator", (id: string) => service.admin("DELETE", `/v1/operators/${id}`)],
  ] as const) {
    it(`is refused when the role ${what} while its body was still on the way`, async () => {
      const id = `slow-${what.slice(0, 3)}@operators`;
      const { host } = await person(service, id, "admin");
      const asked = request(new URL("/v1/operators", service.urls.admin), {
        method: "POST",
        agent: false,
        ca: service.roots,
        headers: { ...own, ...json, connection: "close" },
        ...credentials(host),
      });
      const status = new Promise<number | string | undefined>((resolve) => {
        asked.on("response", (response) => void response.resume().on("end", () => resolve(response.statusCode)));
        asked.on("error", (error: NodeJS.ErrnoException) => resolve(error.code));
      });
      asked.write('{"id": "kept-in-reserve", ');
      await new Promise((resolve) => setTimeout(resolve, 200));
      await change(id);
      asked.end('"role": "admin"}');
      assert.match(String(await status), /^(403|ECONNRESET|EPIPE)$/);
      assert.equal(await service.server.authority.store.findIdentity("kept-in-reserve"), null);
    });
  }

  it("tells who may not act nothing about what he sent", async () => {
    for (const declared of changing.filter(({ act }) => acts[act] !== "viewer")) {
      const answer = await operators.viewer.send({ ...requestOf(declared), body: "{ not JSON" });
      assert.equal(codeOf(answer), "not-permitted", declared.id);
    }
  });

  const json = { "content-type": "application/json" };
  const own = { "x-newleaf-client": "test" };
  const refusals: readonly (readonly [string, Readonly<Record<string, string>>, string])[] = [
    ["no X-Newleaf-Client", {}, "not-permitted"],
    ["an empty X-Newleaf-Client", { "x-newleaf-client": "" }, "not-permitted"],
    ["a foreign Origin", { ...own, origin: "https://evil.example" }, "not-permitted"],
    ["the Origin null", { ...own, origin: "null" }, "not-permitted"],
    ["this host's other port as Origin", { ...own, origin: "https://localhost:1" }, "not-permitted"],
  ];

  for (const [what, headers, code] of refusals) {
    it(`is refused with ${what} whenever it changes anything, with a body or without`, async () => {
      for (const declared of changing) {
        const { body, ...bare } = requestOf(declared);
        const full = { ...bare, headers: { ...headers, ...json }, body: body ?? {} };
        for (const request of [{ ...bare, headers }, full]) {
          const answer = await operators.admin.send(request);
          assert.equal(codeOf(answer), code, `${declared.id}: ${answer.status}`);
        }
      }
    });
  }

  it("is refused from a foreign Origin also when it reads", async () => {
    for (const declared of operations.filter(({ method }) => method === "get")) {
      const headers = { origin: "https://evil.example" };
      const answer = await operators.admin.send({ ...requestOf(declared), headers });
      assert.equal(codeOf(answer), "not-permitted", declared.id);
    }
  });

  it("is refused with a body that is not JSON by its type, also where none is looked at", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]) {
      for (const declared of changing) {
        const headers = { ...own, "content-type": type };
        const answer = await operators.admin.send({ ...requestOf(declared), headers, body: "{}" });
        assert.equal(codeOf(answer), "media-type-unsupported", declared.id);
      }
    }
  });

  it("is reached with the header, and with the listener's own Origin", async () => {
    for (const declared of changing) {
      const headers = { ...own, ...json, origin: service.urls.admin };
      const answer = await operators.admin.send({ ...requestOf(declared), headers, body: { noSuchField: true } });
      assert.ok(!["not-permitted", "media-type-unsupported"].includes(codeOf(answer) ?? ""), declared.id);
    }
  });
});
