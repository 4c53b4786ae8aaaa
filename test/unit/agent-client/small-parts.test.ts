/** The lock, the agent's own keys, its log lines and its metrics. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { openCredentials } from "../../../agent-client/credentials.ts";
import { lockHolder, takeLock } from "../../../agent-client/lock.ts";
import { createLog, logWith } from "../../../agent-client/log.ts";
import { type CertificateMetrics, renderMetrics, serveMetrics } from "../../../agent-client/metrics.ts";
import { createWake } from "../../../agent-client/wake.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { makeTestCa } from "../../support/test-ca.ts";

const directory = temporaryDirectory("agent");

test("one lock for one state directory: the second one is told who has it, and gets it when it is free", async () => {
  {
    await using first = await takeLock(directory, "newleaf-agent run (pid 7)");
    assert.ok(first);
    assert.equal(await lockHolder(directory), "newleaf-agent run (pid 7)");
    await assert.rejects(takeLock(directory, "second"), /is in use by newleaf-agent run \(pid 7\); stop it first/);
  }
  assert.equal(await lockHolder(directory), null);
  await (await takeLock(directory, "third"))[Symbol.asyncDispose]();
});

test("a request key is made once, and not known to others", async () => {
  const home = join(directory, "keys");
  const store = await openCredentials(home);
  assert.equal(await store.readRequestKey(), null);
  const key = await store.requestKey("ecdsa-p256");
  const again = await (await openCredentials(home)).requestKey("ed25519");
  assert.equal(keyFingerprint(again), keyFingerprint(key), "the same key asks again, whatever is configured now");
  assert.equal(statSync(join(home, "request-key.pem")).mode & 0o777, 0o600);
  writeFileSync(join(home, "request-key.pem"), readFileSync(join(home, "request-key.pem"), "utf8").slice(0, 60));
  assert.notEqual(
    keyFingerprint(await store.requestKey("ecdsa-p256")),
    keyFingerprint(key),
    "half a key was never used",
  );
  await store.dropRequestKey();
  await store.dropRequestKey();
  assert.deepEqual(readdirSync(home), []);
});

test(
  "a leaf is kept with its key in one file; damage and a foreign key are found",
  { skip: needs("openssl") },
  async () => {
    const home = join(directory, "leaves");
    const { intermediate } = makeTestCa(join(directory, "ca"));
    const store = await openCredentials(home);
    const leaf = intermediate.issue();
    const name = await store.writeLeaf(leaf.key, leaf.certificate, [intermediate.certificate]);
    assert.equal(await store.writeLeaf(leaf.key, leaf.certificate, [intermediate.certificate]), name);
    const credential = await store.readLeaf(name);
    assert.ok(credential.leaf.equals(leaf.certificate) && credential.chain.length === 1);
    assert.equal(credential.pem.cert.match(/BEGIN CERTIFICATE/g)?.length, 2);

    const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    const swapped = await store.writeLeaf(other, leaf.certificate, []);
    await assert.rejects(store.readLeaf(swapped), /key and leaf are no pair; enroll again/);
    const second = intermediate.issue();
    const kept = await store.writeLeaf(second.key, second.certificate, []);
    await store.keepLeaves([kept]);
    assert.equal(readdirSync(home).length, 1);
    await assert.rejects(store.readLeaf(name), { code: "ENOENT" });
  },
);

test("a log line is one line, whatever is in it", () => {
  const lines: string[] = [];
  const log = logWith(
    createLog(
      (line) => void lines.push(line),
      () => 0,
    ),
    { certificate: "gateway" },
  );
  log.info("installed", { version: "v1", why: 'a "b"\nc=d', none: undefined, count: 3, ok: true });
  assert.deepEqual(lines, [
    '1970-01-01T00:00:00.000Z info installed certificate=gateway version=v1 why="a \\"b\\"\\nc=d" count=3 ok=true\n',
  ]);
  // What a server said may reach a terminal by way of the log.
  log.warn("said", { why: "\u009b31mred\u202eder\u0085\u007f\u001b" });
  assert.match(lines[1] ?? "", /why="\\u009b31mred\\u202eder\\u0085\\u007f\\u001b"\n$/);
});

const metrics: CertificateMetrics = {
  name: "gateway",
  notAfter: 1_800_000_000_000,
  servedMatches: true,
  reloadPending: false,
  crlNextUpdate: null,
  canary: { good: true, revoked: null },
  attempts: { served: 2 },
};

test("metrics have the contract's names, seconds, and no sample for what is not there", () => {
  const text = renderMetrics([metrics]);
  assert.match(
    text,
    /^# TYPE newleaf_agent_not_after_timestamp_seconds gauge\nnewleaf_agent_not_after_timestamp_seconds\{certificate="gateway"\} 1800000000$/m,
  );
  assert.match(text, /^newleaf_agent_served_matches\{certificate="gateway"\} 1$/m);
  assert.match(text, /^newleaf_agent_reload_pending\{certificate="gateway"\} 0$/m);
  assert.match(text, /^newleaf_agent_attempts_total\{certificate="gateway",outcome="served"\} 2$/m);
  assert.match(text, /^newleaf_agent_attempts_total\{certificate="gateway",outcome="refused"\} 0$/m);
  assert.doesNotMatch(text, /crl_next_update/);
  assert.ok(text.endsWith("\n"));
});

test("metrics are served on their address, and nothing else is", async () => {
  await using server = await serveMetrics({ host: "127.0.0.1", port: 0 }, () => [metrics]);
  const fetched = await new Promise<[number, string]>((resolve) => {
    get({ host: "127.0.0.1", port: server.port, path: "/metrics", agent: false }, (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString()));
      response.on("end", () => resolve([response.statusCode ?? 0, body]));
    });
  });
  assert.deepEqual(fetched, [200, renderMetrics([metrics])]);
  const status = await new Promise((resolve) => {
    get({ host: "127.0.0.1", port: server.port, path: "/", agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
  });
  assert.equal(status, 404);
});

test("a sleep ends when it is woken, when it was woken before, and when the signal aborts", async () => {
  const wake = createWake();
  const idle = new AbortController();
  const began = performance.now();
  setTimeout(() => wake.now(), 10);
  await wake.sleep(60_000, idle.signal);
  wake.now();
  await wake.sleep(60_000, idle.signal);
  setTimeout(() => idle.abort(), 10);
  await wake.sleep(60_000, idle.signal);
  assert.ok(performance.now() - began < 5000);
});
