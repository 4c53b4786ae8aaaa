/** A service with more to do than it can: who waits, who is sent away and with what words, who is never held up. */
import assert from "node:assert/strict";
import { request as httpsRequest } from "node:https";
import { after, before, describe, it } from "node:test";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { AppError } from "@newleaf/shared/problems";
import { createPrivateKey } from "node:crypto";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { renewalLimits } from "../../../../../server/authority/herd/admission.ts";
import { until } from "../../../../support/agent.ts";
import { call, credentials, csrFor, type Host, newKey, renew, settled, use } from "../../../../support/agent-client.ts";
import { busyLine } from "../../../../support/busy-line.ts";
import { startService, type TestService } from "../../../../support/service.ts";

let service: TestService;

interface Problem {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: { readonly code?: string; readonly detail?: string; readonly retryAfterSeconds?: number };
}

/** The answer as it is, and a way to hang up. */
function ask(host: Host, path: string, body?: unknown): { answer: Promise<Problem>; hangUp: () => void } {
  const { promise, resolve, reject } = Promise.withResolvers<Problem>();
  const request = httpsRequest(service.urls.agents + path, {
    method: body === undefined ? "GET" : "POST",
    agent: false,
    ca: service.roots,
    ...credentials(host),
    headers: body === undefined ? {} : { "content-type": "application/json" },
  });
  request.on("error", reject);
  request.on("response", (response) => {
    let text = "";
    response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    response.on("end", () => {
      const parsed = text === "" ? {} : (JSON.parse(text) as Problem["body"]);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: parsed });
    });
  });
  request.end(body === undefined ? undefined : JSON.stringify(body));
  return { answer: promise, hangUp: () => request.destroy() };
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(new URL("/metrics", service.urls.ops))).text();
  const line = text.split("\n").find((row) => row.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? Number.NaN);
}

describe("a service with more to do than it can", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("has a renewal wait for its turn, and serves it when that comes", async () => {
    const host = await settled(service, "patient");
    using line = busyLine(service.server.authority.herd.renewals, 3);
    const { answer } = ask(host, "/v1/renewals", { csr: csrFor(await newKey()) });
    await until("it waits", async () => (await metric('newleaf_admission_waiting{line="renewals"}')) === 4);
    line.end();
    assert.equal((await answer).status, 201);
    assert.equal(await metric('newleaf_admission_waiting{line="renewals"}'), 0);
  });

  it("takes whoever has gone out of the line", async () => {
    const host = await settled(service, "impatient");
    using line = busyLine(service.server.authority.herd.renewals, 0);
    const { answer, hangUp } = ask(host, "/v1/renewals", { csr: csrFor(await newKey()) });
    const waiting = () => service.server.authority.herd.renewals.waiting();
    await until("it waits", () => waiting() === 1);
    hangUp();
    await assert.rejects(answer);
    await until("it is gone", () => waiting() === 0);
    assert.equal(await metric('newleaf_admission_turned_away_total{reason="gone"}'), 1);
    line.end();
  });

  it("sends the least urgent away, at once and without a connection, saying when to come back; nothing is audited", async () => {
    const host = await settled(service, "sent-away");
    const rows = await auditRows();
    using line = busyLine(service.server.authority.herd.renewals, renewalLimits.maxWaiting);
    const { status, headers, body } = await ask(host, "/v1/renewals", { csr: csrFor(await newKey()) }).answer;
    assert.deepEqual([status, body.code, headers["content-type"]], [429, "rate-limited", "application/problem+json"]);
    assert.match(body.detail ?? "", /urgent/);
    assert.equal(headers["retry-after"], String(body.retryAfterSeconds));
    assert.equal(headers["connection"], "close");
    // A thousand and 32 at a hundred a second, until something was measured.
    assert.ok(Number(headers["retry-after"]) >= 10 && Number(headers["retry-after"]) < 20, headers["retry-after"]);
    assert.equal(await metric('newleaf_admission_turned_away_total{reason="full"}'), 1);
    assert.equal((await ask(host, "/v1/renewal-window").answer).status, 200, "other requests are no issuing");
    line.end();
    assert.equal(await auditRows(), rows);
    await renew(service, host);
  });

  it("operators do not wait", async () => {
    using line = busyLine(service.server.authority.herd.renewals, renewalLimits.maxWaiting);
    const operator = readOperator();
    const { status } = await ask(operator, "/v1/renewals", { csr: csrFor(await newKey()) }).answer;
    assert.equal(status, 201);
    line.end();
  });

  it("holds four polls of one identity and no more; another identity finds its place", async () => {
    const host = await settled(service, "pollster");
    const other = await settled(service, "neighbour");
    const poll = async (who: Host) => {
      const { cursor } = (await call(service, "agents", "GET", "/v1/changes", { host: who })).body as {
        cursor: string;
      };
      return ask(who, `/v1/changes?after=${encodeURIComponent(cursor)}&wait=30s`);
    };
    const held = [await poll(host), await poll(host), await poll(host), await poll(host)];
    await sleep(300);
    const fifth = await (await poll(host)).answer;
    assert.deepEqual([fifth.status, fifth.headers["retry-after"]], [204, "30"]);
    const others = await poll(other);
    const first = await Promise.race([others.answer.then(() => "answered"), sleep(300).then(() => "held")]);
    assert.equal(first, "held");
    for (const each of [...held, others]) {
      each.answer.catch(() => undefined);
      each.hangUp();
    }
    await until("the slots are free", async () => {
      const again = await poll(host);
      const outcome = await Promise.race([again.answer.then(() => "refused"), sleep(200).then(() => "held")]);
      again.answer.catch(() => undefined);
      again.hangUp();
      return outcome === "held";
    });
  });

  it("one leaf has so many requests; the next leaf of the same identity has its own", async () => {
    const host = await settled(service, "hammering");
    const next = await renew(service, host);
    emptyBucket(`leaf ${host.answer.serial}`, { burst: 240, perHour: 18_000 });
    const { status, headers, body } = await ask(host, "/v1/renewal-window").answer;
    assert.deepEqual([status, body.code, headers["retry-after"]], [429, "rate-limited", "1"]);
    await use(service, next);
  });

  it("nor more at the admin listener, which has nothing for it", async () => {
    const host = await settled(service, "knocking");
    const knock = () => call(service, "admin", "GET", "/v1/status", { host });
    await assert.rejects(knock(), { code: "not-permitted" });
    emptyBucket(`leaf ${host.answer.serial}`, { burst: 240, perHour: 18_000 });
    await assert.rejects(knock(), isRateLimited);
    await service.admin("GET", "/v1/status");
  });

  it("a stranger whose address was refused too often waits; a host behind the same address does not", async () => {
    const host = await settled(service, "behind-nat");
    emptyBucket("refusals 127.0.0.1", { burst: 1_000, perHour: 3_600 });
    const stranger = call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: "x" } });
    await assert.rejects(stranger, isRateLimited);
    await assert.rejects(call(service, "agents", "GET", "/v1/renewal-window"), isRateLimited);
    await renew(service, host);
    assert.equal(await metric('newleaf_admission_turned_away_total{reason="too-many-refusals"}'), 2);
  });
});

/** As many refusals fill a bucket; a stranger's each take one. */
function emptyBucket(who: string, rate: { burst: number; perHour: number }): void {
  const { requests } = service.server.authority.herd;
  while (requests.take(who, rate));
}

function isRateLimited(error: unknown): boolean {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, "rate-limited");
  assert.equal(error.retryAfterSeconds, 1);
  return true;
}

async function auditRows(): Promise<number> {
  return (await service.server.authority.store.readAuditChain(0, 5_000)).length;
}

function readOperator(): Host {
  const chain = pemDecode(readFileSync(service.operator.chainFile, "utf8"), "CERTIFICATE").map((der) =>
    pemEncode("CERTIFICATE", der),
  );
  const [certificate = "", ...rest] = chain;
  const key = createPrivateKey(readFileSync(service.operator.keyFile));
  return { key, answer: { certificate, chain: rest.join("") } as CertificateAnswer };
}
