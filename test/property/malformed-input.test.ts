/**
 * Mutated CSRs, JSON bodies, headers and paths against every listener: never a 500, never a crash, memory flat. A refusal is
 * problem+json with a known code. The seed is printed; NEWLEAF_FUZZ_SEED repeats a run, NEWLEAF_FUZZ_CASES makes it longer.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Agent as PlainAgent, request as plainRequest, type ClientRequestArgs } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { connect as plainConnect, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { connect as tlsConnect } from "node:tls";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createCsr } from "@newleaf/shared/csr";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import { isProblemCode } from "@newleaf/shared/problems";
import { startService, type TestService } from "../support/service.ts";

const cases = Number(process.env["NEWLEAF_FUZZ_CASES"] ?? 30_000);
const seed = Number(process.env["NEWLEAF_FUZZ_SEED"] ?? Date.now() % 1_000_000);
const lanes = 8;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let service: TestService;
let identityTls: { cert: string; key: string };
let operatorTls: { cert: string; key: string };
let goodCsr: Buffer;

/** mulberry32: small, seeded, good enough to wander. */
function generator(start: number): {
  next(): number;
  below(limit: number): number;
  pick<T>(list: readonly T[]): T;
  bytes(size: number): Buffer;
} {
  let state = start >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (limit: number): number => Math.floor(next() * limit);
  return {
    next,
    below,
    pick: (list) => list[below(list.length)] as (typeof list)[number],
    bytes: (size) => Buffer.from(Array.from({ length: size }, () => below(256))),
  };
}

type Random = ReturnType<typeof generator>;

function mutate(random: Random, source: Buffer): Buffer {
  let bytes = Buffer.from(source);
  const edits = 1 + random.below(4);
  for (let edit = 0; edit < edits; edit++) {
    const at = random.below(bytes.length + 1);
    const kind = random.below(6);
    if (kind === 0 && at < bytes.length) bytes[at] = random.below(256);
    else if (kind === 1 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    else if (kind === 2)
      bytes = Buffer.concat([bytes.subarray(0, at), random.bytes(random.below(8)), bytes.subarray(at)]);
    else if (kind === 3)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 1 + random.below(16)))]);
    else if (kind === 4) bytes = bytes.subarray(0, at);
    else bytes = Buffer.concat([bytes, bytes.subarray(random.below(bytes.length + 1))]);
  }
  return bytes;
}

/** Values that JSON can hold and no schema expects. */
function oddValue(random: Random, depth = 0): unknown {
  const leaves = [
    null,
    true,
    -1,
    1e308,
    "",
    "\u0000",
    "\ud800",
    "__proto__",
    "sha256:",
    "-----BEGIN CERTIFICATE REQUEST-----",
    "../../etc/passwd",
    "A".repeat(random.below(3_000)),
  ];
  if (depth < 3 && random.next() < 0.3)
    return Array.from({ length: random.below(4) }, () => oddValue(random, depth + 1));
  if (depth < 3 && random.next() < 0.3) {
    return Object.fromEntries(
      Array.from({ length: random.below(4) }, (_, index) => [
        random.pick(["csr", "token", "__proto__", "constructor", `k${index}`]),
        oddValue(random, depth + 1),
      ]),
    );
  }
  return random.pick(leaves);
}

function csrText(random: Random): string {
  const der = random.next() < 0.9 ? mutate(random, goodCsr) : random.bytes(random.below(2_000));
  const form = random.below(4);
  if (form === 0) return der.toString("base64");
  if (form === 1) return mutate(random, Buffer.from(pemEncode("CERTIFICATE REQUEST", der))).toString("latin1");
  return pemEncode("CERTIFICATE REQUEST", der);
}

interface Target {
  readonly listener: "agents" | "enrollment" | "admin" | "public";
  readonly method: string;
  readonly path: string;
}

const targets: readonly Target[] = [
  { listener: "enrollment", method: "POST", path: "/v1/enrollments" },
  { listener: "enrollment", method: "POST", path: "/v1/enrollments" },
  { listener: "enrollment", method: "GET", path: "/v1/enrollments/0123456789abcdef0123456789abcdef" },
  { listener: "agents", method: "POST", path: "/v1/renewals" },
  { listener: "agents", method: "POST", path: "/v1/renewals" },
  { listener: "agents", method: "POST", path: "/v1/reports" },
  { listener: "agents", method: "GET", path: "/v1/renewal-window" },
  { listener: "agents", method: "GET", path: "/v1/changes?after=x&wait=0s" },
  { listener: "agents", method: "GET", path: "/v1/bundle" },
  { listener: "public", method: "GET", path: "/crl/0123456789abcdef.crl" },
  { listener: "public", method: "GET", path: "/issuers/0123456789abcdef.crt" },
  { listener: "public", method: "GET", path: "/roots.pem" },
  { listener: "admin", method: "POST", path: "/v1/identities" },
  { listener: "admin", method: "POST", path: "/v1/inventory/plan" },
  { listener: "admin", method: "POST", path: "/v1/tokens" },
  { listener: "admin", method: "POST", path: "/v1/revocations" },
  { listener: "admin", method: "GET", path: "/v1/certificates?limit=5" },
  { listener: "admin", method: "GET", path: "/v1/audit?limit=5" },
];

function bodyFor(random: Random, target: Target): Buffer {
  const kind = random.below(5);
  if (kind === 0) return random.bytes(random.below(400));
  if (kind === 1) return Buffer.from(JSON.stringify(oddValue(random)));
  if (kind === 2) return mutate(random, Buffer.from(JSON.stringify({ csr: goodCsr.toString("base64") })));
  if (target.listener === "admin")
    return Buffer.from(
      JSON.stringify({
        id: oddValue(random),
        profile: "agent",
        names: oddValue(random),
        identity: oddValue(random),
        serial: oddValue(random),
        identities: oddValue(random),
      }),
    );
  return Buffer.from(
    JSON.stringify({ csr: csrText(random), ...(random.next() < 0.3 ? { token: oddValue(random) } : {}) }),
  );
}

function pathFor(random: Random, path: string): string {
  if (random.next() < 0.7) return path;
  const junk = [
    "%00",
    "%",
    "%zz",
    "..",
    "//",
    "?a[b]=c",
    "?limit=-1",
    "?cursor=x",
    "?cursor=eyJ9",
    "%2e%2e%2f",
    ";",
    "\u00e9",
    "?after=9999999999",
  ];
  return encodeURI(path + random.pick(junk)).replaceAll("%25", "%");
}

interface Outcome {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

describe(`malformed input (seed ${seed}, ${cases} cases)`, () => {
  before(async () => {
    service = await startService({ NEWLEAF_LOG_LEVEL: "error" });
    const key = await generateKey("ecdsa-p256");
    goodCsr = createCsr({
      key,
      commonName: "agent-fuzz",
      names: { dns: ["fuzz.claw.internal"], ip: ["10.0.0.1"], uri: [], email: [] },
    });
    const own = await generateKey("ecdsa-p256");
    const token = await service.token("agent-fuzz");
    const answer = await send(
      { listener: "enrollment", method: "POST", path: "/v1/enrollments" },
      Buffer.from(JSON.stringify({ csr: createCsr({ key: own }).toString("base64"), token })),
      {},
    );
    const { certificate, chain } = JSON.parse(answer.text) as { certificate: string; chain: string };
    identityTls = { cert: certificate + chain, key: own.export({ type: "pkcs8", format: "pem" }).toString() };
    operatorTls = {
      cert: await readFile(service.operator.chainFile, "utf8"),
      key: await readFile(service.operator.keyFile, "utf8"),
    };
  });
  after(() => service[Symbol.asyncDispose]());

  it("never answers 500, never crashes, and stays flat in memory", async (context) => {
    const statuses = new Map<number, number>();
    await wander(Math.floor(cases / 4), seed, statuses);
    const memoryBefore = settledMemory();
    await wander(cases - Math.floor(cases / 4), seed + 1, statuses);
    const grown = settledMemory() - memoryBefore;
    context.diagnostic(
      `statuses ${JSON.stringify(Object.fromEntries(statuses))}, memory grew ${(grown / 1e6).toFixed(1)} MB`,
    );
    assert.ok(statuses.has(400) && statuses.has(404) && statuses.has(403), "the cases did not reach the parsers");
    assert.ok(grown < 60_000_000, `memory grew by ${grown} bytes`);
  });

  it("answers broken HTTP with 4xx or a closed connection", async () => {
    const random = generator(seed + 2);
    for (let index = 0; index < 1_500; index++) {
      const raw = rawRequest(random);
      const answer = await exchange(index % 10 === 0 ? "enrollment" : "public", raw);
      const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
      assert.ok(
        status < 500,
        `seed ${seed + 2}, case ${index}: ${status} for ${JSON.stringify(raw.toString("latin1").slice(0, 300))}`,
      );
    }
    assert.equal((await fetch(`${service.urls.ops}/readyz`)).status, 200);
  });
});

async function wander(count: number, start: number, statuses: Map<number, number>): Promise<void> {
  let index = 0;
  const lane = async (): Promise<void> => {
    while (index < count) {
      const mine = index++;
      const random = generator(start * 1_000_003 + mine);
      const target = random.pick(targets);
      const body = target.method === "GET" ? Buffer.alloc(0) : bodyFor(random, target);
      const headers = headersFor(random);
      const outcome = await send({ ...target, path: pathFor(random, target.path) }, body, headers);
      statuses.set(outcome.status, (statuses.get(outcome.status) ?? 0) + 1);
      const name = `seed ${start}, case ${mine}: ${target.method} ${target.path} ${createHash("sha256").update(body).digest("hex").slice(0, 8)}`;
      assert.ok(
        outcome.status < 500,
        `${name}: ${outcome.status} ${outcome.text} for ${body.toString("latin1").slice(0, 500)}`,
      );
      if (outcome.status >= 400) {
        assert.equal(outcome.type, "application/problem+json", `${name}: ${outcome.status} ${outcome.text}`);
        assert.ok(isProblemCode((JSON.parse(outcome.text) as { code: unknown }).code), `${name}: ${outcome.text}`);
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

function headersFor(random: Random): Record<string, string> {
  const type =
    random.next() < 0.85
      ? "application/json"
      : random.pick(["text/plain", "application/json; charset=utf-16", "", "application/x-www-form-urlencoded"]);
  const extra: Record<string, string>[] = [
    {},
    { "X-Newleaf-Client": "fuzz" },
    { "X-Newleaf-Client": "fuzz", Origin: "https://evil.example" },
    { Accept: random.pick(["*/*", "application/pem-certificate-chain", "text/html", ";;;", "a/b;q=x"]) },
    { "Content-Encoding": random.pick(["gzip", "br", "identity"]) },
    { "If-None-Match": random.pick(["*", '"x"', "W/", "\u00ff"]) },
  ];
  return { "Content-Type": type, "X-Newleaf-Client": "fuzz", ...random.pick(extra) };
}

const tlsAgents = new Map<string, TlsAgent>();
const plainAgent = new PlainAgent({ keepAlive: true, maxSockets: lanes });

function send(target: Target, body: Buffer, headers: Record<string, string>): Promise<Outcome> {
  const url = new URL(service.urls[target.listener]);
  const options: ClientRequestArgs = {
    host: "127.0.0.1",
    port: url.port,
    method: target.method,
    path: target.path,
    headers: { "Content-Type": "application/json", ...headers, "Content-Length": String(body.length) },
  };
  return new Promise((resolve, reject) => {
    const request =
      target.listener === "public"
        ? plainRequest({ ...options, agent: plainAgent })
        : tlsRequest({ ...options, agent: agentOf(target.listener), servername: "localhost" });
    request.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE"
        ? resolve({ status: 0, type: "", text: "" })
        : reject(error),
    );
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers["content-type"] ?? "",
          text: Buffer.concat(chunks).toString("utf8"),
        }),
      );
    });
    request.end(body);
  });
}

function agentOf(listener: "agents" | "enrollment" | "admin" | "public"): TlsAgent {
  let agent = tlsAgents.get(listener);
  if (agent === undefined) {
    const client = { agents: identityTls, admin: operatorTls, enrollment: {}, public: {} }[listener];
    agent = new TlsAgent({ keepAlive: true, maxSockets: lanes, ca: service.roots, ...client });
    tlsAgents.set(listener, agent);
  }
  return agent;
}

function rawRequest(random: Random): Buffer {
  const good = Buffer.from(
    `POST /v1/enrollments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{"csr":"AA"}`,
  );
  const bytes = mutate(random, good);
  return random.next() < 0.1
    ? Buffer.concat([Buffer.from(`GET / HTTP/1.1\r\nX: ${"y".repeat(random.below(40_000))}\r\n`), bytes])
    : bytes;
}

/** Whatever comes back before the connection closes, or within a moment. */
function exchange(listener: "enrollment" | "public", raw: Buffer): Promise<string> {
  const port = Number(new URL(service.urls[listener]).port);
  return new Promise((resolve) => {
    const socket: Socket =
      listener === "public"
        ? plainConnect(port, "127.0.0.1")
        : tlsConnect({ port, host: "127.0.0.1", servername: "localhost", ca: service.roots });
    let text = "";
    const done = (): void => {
      socket.destroy();
      resolve(text);
    };
    socket.setTimeout(150, done);
    socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
    socket.on("error", done);
    socket.on("close", done);
    socket.end(raw);
  });
}

/** Of this process, which runs the service too. */
function settledMemory(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed + process.memoryUsage().external;
}
