/** A write that is sent twice with one Idempotency-Key is acted on once. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it, mock } from "node:test";
import { createAnswerCleanup } from "../../../../server/authority/idempotency.ts";
import type { Store } from "../../../../server/store/store.ts";
import { AppError } from "../../../../shared/problems.ts";
import {
  type AdminAnswer,
  type AdminRequest,
  firstOperator,
  type OperatorClient,
  operatorsOfEachRole,
} from "../../../support/admin-clients.ts";
import { startService, type TestService } from "../../../support/service.ts";

let service: TestService;
let admin: OperatorClient;

const day = 86_400_000;
const codeOf = ({ json }: AdminAnswer): string | undefined => (json as { code?: string } | undefined)?.code;
const isReplay = ({ headers }: AdminAnswer): boolean => headers["idempotency-replayed"] === "true";

function keyed(key: string, request: AdminRequest): AdminRequest {
  const type = request.body === undefined ? {} : { "content-type": "application/json" };
  return { ...request, headers: { "x-newleaf-client": "test", "idempotency-key": key, ...type } };
}

const addition = (id: string): AdminRequest => ({
  method: "POST",
  path: "/v1/identities",
  body: { id, profile: "agent" },
});
const tokenFor = (identity: string): AdminRequest => ({ method: "POST", path: "/v1/tokens", body: { identity } });

async function countOf(path: string): Promise<number> {
  return (await service.admin<{ items: unknown[] }>("GET", path)).items.length;
}

describe("Idempotency-Key", () => {
  before(async () => {
    service = await startService();
    admin = await firstOperator(service);
    await admin.send(addition("web"));
  });
  after(async () => {
    admin[Symbol.dispose]();
    await service[Symbol.asyncDispose]();
  });

  it("gives a repeat the same status, headers and body, and acts once", async () => {
    const key = randomUUID();
    const first = await admin.send(keyed(key, tokenFor("web")));
    const again = await admin.send(keyed(key, tokenFor("web")));
    assert.deepEqual([first.status, isReplay(first)], [201, false]);
    assert.deepEqual([again.status, again.text, isReplay(again)], [201, first.text, true]);
    assert.equal(await countOf("/v1/tokens?identity=web"), 1);

    const location = randomUUID();
    const added = await admin.send(keyed(location, addition("located")));
    const repeated = await admin.send(keyed(location, addition("located")));
    assert.deepEqual([added.status, added.headers["location"]], [201, "/v1/identities/located"]);
    assert.deepEqual([repeated.status, repeated.headers["location"]], [201, "/v1/identities/located"]);

    const removal = keyed(randomUUID(), { method: "DELETE", path: "/v1/identities/located" });
    assert.equal((await admin.send(removal)).status, 204);
    const gone = await admin.send(removal);
    assert.deepEqual([gone.status, gone.text, isReplay(gone)], [204, "", true], "not 404");
  });

  it("acts once on requests that arrive together", async () => {
    const key = randomUUID();
    const answers = await Promise.all(Array.from({ length: 6 }, () => admin.send(keyed(key, addition("together")))));
    assert.equal(answers.filter((answer) => answer.status === 201 && !isReplay(answer)).length, 1);
    for (const answer of answers.filter(({ status }) => status !== 201)) assert.equal(codeOf(answer), "conflict");
    assert.equal((await admin.send(keyed(key, addition("together")))).status, 201);
  });

  it("refuses another body, path or method under the same key", async () => {
    const key = randomUUID();
    await admin.send(keyed(key, addition("first")));
    const others: readonly AdminRequest[] = [
      addition("second"),
      { method: "POST", path: "/v1/inventory/plan", body: { id: "first", profile: "agent" } },
      { method: "DELETE", path: "/v1/identities/first" },
      { method: "POST", path: "/v1/identities?x=1", body: { id: "first", profile: "agent" } },
    ];
    for (const other of others) {
      const answer = await admin.send(keyed(key, other));
      // A body that is not this operation's is said first.
      assert.ok(["conflict", "request-invalid"].includes(codeOf(answer) ?? ""), `${other.path}: ${answer.text}`);
    }
    assert.equal(codeOf(await admin.send(keyed(key, addition("second")))), "conflict");
    assert.equal((await admin.send({ method: "GET", path: "/v1/identities/second" })).status, 404);
    assert.equal((await admin.send({ method: "GET", path: "/v1/identities/first" })).status, 200);
  });

  it("repeats a refusal that was decided, and forgets one that passes", async () => {
    const key = randomUUID();
    const refused = await admin.send(keyed(key, tokenFor("nobody")));
    assert.equal(codeOf(refused), "identity-unknown");
    await admin.send(addition("nobody"));
    const again = await admin.send(keyed(key, tokenFor("nobody")));
    assert.deepEqual([again.status, again.text, isReplay(again)], [refused.status, refused.text, true]);

    const passing = randomUUID();
    await admin.send({ method: "POST", path: "/v1/identities/nobody/suspension" });
    assert.equal(codeOf(await admin.send(keyed(passing, tokenFor("nobody")))), "identity-suspended");
    await admin.send({ method: "DELETE", path: "/v1/identities/nobody/suspension" });
    assert.equal((await admin.send(keyed(passing, tokenFor("nobody")))).status, 201);
  });

  it("says to look when a request was begun and its end is not known", async () => {
    const { store } = service.server.authority;
    const key = randomUUID();
    const cut = mock.method(store, "finishIdempotent", () => Promise.reject(new Error("power cut")));
    try {
      assert.equal((await admin.send(keyed(key, addition("cut")))).status, 201, "what is done is done");
    } finally {
      cut.mock.restore();
    }
    await service.restart();
    admin[Symbol.dispose]();
    admin = await firstOperator(service);
    const again = await admin.send(keyed(key, addition("cut")));
    assert.deepEqual([again.status, codeOf(again)], [409, "conflict"]);
    assert.match(again.text, /look whether it took effect, then use another key/);
    assert.equal((await admin.send({ method: "GET", path: "/v1/identities/cut" })).status, 200);
  });

  it("leaves a fault inside as begun, since it may have come after a write", async () => {
    const key = randomUUID();
    const broken = mock.method(service.server.authority.store, "createToken", () => Promise.reject(new Error("fault")));
    try {
      assert.equal(codeOf(await admin.send(keyed(key, tokenFor("web")))), "internal");
    } finally {
      broken.mock.restore();
    }
    assert.match((await admin.send(keyed(key, tokenFor("web")))).text, /look whether it took effect/);
  });

  it("does not begin what is invalid or not permitted, and takes no key that is short or unprintable", async () => {
    const key = randomUUID();
    assert.equal(codeOf(await admin.send(keyed(key, { ...addition("x"), body: { id: 5 } }))), "request-invalid");
    assert.equal((await admin.send(keyed(key, addition("x")))).status, 201);
    for (const bad of ["short", "x".repeat(256), `tab\tinside-of-the-key`, "umlaut-ä-umlaut-ä"]) {
      assert.equal(codeOf(await admin.send(keyed(bad, addition("y")))), "request-invalid", bad);
    }
  });

  it("is the operator's own: another's same key is another request", async () => {
    using operators = await operatorsOfEachRole(service);
    const key = randomUUID();
    const mine = await admin.send(keyed(key, tokenFor("web")));
    const theirs = await operators.operator.send(keyed(key, tokenFor("web")));
    assert.deepEqual([mine.status, theirs.status, isReplay(theirs)], [201, 201, false]);
    assert.notEqual(mine.text, theirs.text);
  });

  it("keeps neither the key nor the token readable in the data directory", async () => {
    const key = randomUUID();
    const { json } = await admin.send(keyed(key, tokenFor("web")));
    const { token } = json as { token: string };
    for (const name of (await readdir(service.dataDir, { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    )) {
      const bytes = await readFile(join(name.parentPath, name.name));
      assert.ok(!bytes.includes(key), `the key is in ${name.name}`);
      assert.ok(!bytes.includes(token), `the token is in ${name.name}`);
    }
  });

  it("forgets after a day", async () => {
    const key = randomUUID();
    await admin.send(keyed(key, tokenFor("web")));
    service.clock.advance(day + 1000);
    const later = await admin.send(keyed(key, tokenFor("web")));
    assert.deepEqual([later.status, isReplay(later)], [201, false]);
  });

  it("is cleared away by a job, every ten minutes", async () => {
    const dropped: number[] = [];
    const store = { dropIdempotent: async (expiredBy: number) => void dropped.push(expiredBy) } as unknown as Store;
    let now = 1_000_000;
    const cleanUp = createAnswerCleanup({ store, clock: { now: () => now } });
    for (const minutes of [0, 5, 5, 1, 10]) {
      now += minutes * 60_000;
      await cleanUp();
    }
    assert.deepEqual(dropped, [1_000_000, 1_600_000, 2_260_000]);
  });

  it("bounds what one operator has kept", async () => {
    const { store, clock } = service.server.authority;
    const now = clock.now();
    const request = (index: number, at: number) => ({
      keyHash: `bound-${index}`,
      operator: "busy",
      requestHash: "r",
      begunAt: at,
      expiresAt: at + day,
    });
    const max = { requests: 3, bytes: 100 };
    for (const index of [1, 2, 3]) assert.equal(await store.beginIdempotent(request(index, now), max), null);
    await assert.rejects(
      store.beginIdempotent(request(4, now + 1000), max),
      (error: unknown) =>
        error instanceof AppError && error.code === "rate-limited" && error.retryAfterSeconds === day / 1000 - 1,
    );
    await store.abandonIdempotent("bound-1");
    await store.finishIdempotent("bound-2", new Uint8Array(100));
    await assert.rejects(store.beginIdempotent(request(4, now), max), { code: "rate-limited" });
    const known = await store.beginIdempotent(request(2, now), max);
    assert.deepEqual([known?.begunAt, known?.answer?.length], [now, 100]);
    await store.dropIdempotent(now + day);
    assert.equal(await store.beginIdempotent(request(2, now), max), null, "dropped");
  });
});
