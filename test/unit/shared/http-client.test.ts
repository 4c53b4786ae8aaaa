import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type HttpRequest, NetworkError, requestJson } from "@newleaf/shared/http-client";
import { AppError } from "@newleaf/shared/problems";
import { needs } from "../../support/programs.ts";

const skip = needs("openssl");
let server: Server;
let ca = "";
let base = "";
let answer: (request: IncomingMessage, response: ServerResponse) => void;

before(async () => {
  if (skip !== false) return;
  const directory = mkdtempSync(join(tmpdir(), "newleaf-http-"));
  const [keyFile, certificateFile] = [join(directory, "k"), join(directory, "c")];
  execFileSync(
    "openssl",
    [
      ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost".split(" "),
      "-addext",
      "subjectAltName=DNS:localhost,IP:127.0.0.1",
      "-keyout",
      keyFile,
      "-out",
      certificateFile,
    ],
    { stdio: "ignore" },
  );
  ca = readFileSync(certificateFile, "utf8");
  server = createServer({ key: readFileSync(keyFile), cert: ca }, (request, response) => answer(request, response));
  rmSync(directory, { recursive: true });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  if (skip === false) {
    server.closeAllConnections();
    server.close();
  }
});

function get(path: string, options: Partial<HttpRequest> = {}) {
  return requestJson({ url: base + path, method: "GET", tls: { ca }, timeoutMs: 5000, maxBytes: 10_000, ...options });
}

test("requestJson sends JSON and parses JSON, text and bytes by their type", { skip }, async () => {
  answer = (request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      response.setHeader(
        "content-type",
        request.url === "/json" ? "application/json; charset=utf-8" : (request.url ?? "").slice(1),
      );
      response.end(Buffer.concat(chunks));
    });
  };
  const body = { csr: "é" };
  assert.deepEqual((await get("/json", { method: "POST", body })).body, body);
  assert.equal((await get("/text/plain", { method: "POST", body })).body, JSON.stringify(body));
  assert.equal((await get("/application/pem-certificate-chain", { method: "POST", body })).body, JSON.stringify(body));
  assert.deepEqual(
    (await get("/application/pkix-crl", { method: "POST", body })).body,
    Buffer.from(JSON.stringify(body)),
  );
});

test("requestJson passes 204 and 304 on with a null body", { skip }, async () => {
  answer = (request, response) => {
    response.statusCode = Number((request.url ?? "").slice(1));
    response.setHeader("etag", '"7"');
    response.end();
  };
  for (const status of [204, 304]) {
    const response = await get(`/${status}`);
    assert.deepEqual([response.status, response.body, response.headers.etag], [status, null, '"7"']);
  }
});

test("a problem becomes an AppError with its code, detail and waiting time", { skip }, async () => {
  answer = (_request, response) => {
    response.writeHead(429, { "content-type": "application/problem+json", "retry-after": "9" });
    response.end(
      JSON.stringify({ type: "urn:newleaf:problem:rate-limited", status: 429, code: "rate-limited", detail: "slower" }),
    );
  };
  await assert.rejects(get("/"), (error: unknown) => {
    assert.ok(error instanceof AppError);
    assert.deepEqual([error.code, error.message, error.retryAfterSeconds], ["rate-limited", "slower", 9]);
    return true;
  });
});

test(
  "an error that is no problem of ours is a NetworkError that keeps the status and the waiting time",
  { skip },
  async () => {
    const now = Date.parse("2026-11-20T12:00:00Z");
    answer = (_request, response) => {
      response.writeHead(502, {
        "content-type": "text/html",
        date: new Date(now).toUTCString(),
        "retry-after": new Date(now + 90_000).toUTCString(),
      });
      response.end("<h1>Bad gateway</h1>");
    };
    await assert.rejects(get("/"), (error: unknown) => {
      assert.ok(error instanceof NetworkError);
      assert.deepEqual([error.fault, error.status, error.retryAfterSeconds], ["protocol", 502, 90]);
      return true;
    });
  },
);

test("requestJson gives up on a long answer, a silent server and an abort, each with its fault", { skip }, async () => {
  answer = (_request, response) => response.end(Buffer.alloc(20_000));
  await assert.rejects(get("/"), { name: "NetworkError", fault: "protocol" });
  answer = () => {};
  await assert.rejects(get("/", { timeoutMs: 100 }), { name: "NetworkError", fault: "timeout" });
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 50);
  await assert.rejects(get("/", { signal: controller.signal }), { name: "NetworkError", fault: "aborted" });
});

test("a server that is not trusted is fault tls, one that is not there is unreachable", { skip }, async () => {
  answer = (_request, response) => response.end();
  await assert.rejects(get("/", { tls: {} }), { name: "NetworkError", fault: "tls" });
  await assert.rejects(get("/", { url: "https://127.0.0.1:1/" }), { name: "NetworkError", fault: "unreachable" });
});

test("an answer that says JSON and is not is a protocol fault", { skip }, async () => {
  answer = (_request, response) => {
    response.setHeader("content-type", "application/json");
    response.end("{");
  };
  await assert.rejects(get("/"), { name: "NetworkError", fault: "protocol" });
});

test("each request has a connection of its own", { skip }, async () => {
  const ports = new Set<number | undefined>();
  answer = (request, response) => {
    ports.add(request.socket.remotePort);
    response.end();
  };
  await get("/");
  await get("/");
  assert.equal(ports.size, 2);
});

test("nothing in the environment makes it trust a stranger, and no roots are not Node's roots", { skip }, async () => {
  answer = (_request, response) => void response.end();
  process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
  try {
    const isTls = (error: unknown) => error instanceof NetworkError && error.fault === "tls";
    await assert.rejects(get("/", { tls: {} }), isTls);
    await assert.rejects(get("/", { tls: { ca: [] } }), isTls);
  } finally {
    delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
  }
});

test("what a problem says is cut, and spelled so that it may be shown", { skip }, async () => {
  answer = (_request, response) => {
    response.writeHead(403, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ code: "enrollment-denied", detail: `\u001b]0;no\u009b ${"x".repeat(5000)}` }));
  };
  await assert.rejects(get("/"), (error: unknown) => {
    assert.ok(error instanceof AppError);
    assert.match(error.message, /^\\u001b\]0;no\\u009b x+$/);
    assert.ok(error.message.length < 1_100);
    return true;
  });
});
