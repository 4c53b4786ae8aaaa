/** Let in, turned away, or nothing that can be said: each kind of server, over both TLS versions. */
import assert from "node:assert/strict";
import { createServer as createHttpsServer } from "node:https";
import { after, describe, it } from "node:test";
import { createServer as createTlsServer, type TLSSocket, type TlsOptions } from "node:tls";
import { healthProblem } from "../../../../agent-client/probe/health.ts";
import { type Visit, visit, type VisitOptions } from "../../../../agent-client/probe/visit.ts";
import { makeMaterial } from "../../../support/material.ts";
import { freePort } from "../../../support/processes.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { certificatePem, crlPem, keyPem, makeTestCa } from "../../../support/test-ca.ts";
import { listen } from "../../../support/tls-server.ts";

const skip = needs("openssl");

describe("a visit", { skip }, () => {
  const pki = makeTestCa(temporaryDirectory("visit"));
  const material = makeMaterial(pki);
  const roots = [certificatePem(pki.root.certificate)];
  const identity = {
    key: keyPem(material.key),
    cert: certificatePem(material.leaf, pki.intermediate.certificate),
  };
  const leaf = pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] });
  const revoked = pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] });
  const asClient = (who: typeof leaf) => ({
    cert: certificatePem(who.certificate, pki.intermediate.certificate),
    key: keyPem(who.key),
  });
  const mutual: TlsOptions = {
    requestCert: true,
    ca: roots,
    crl: [crlPem(pki.root.crl()), crlPem(pki.intermediate.crl({ revoked: [revoked.serial] }))],
  };
  const stops: (() => Promise<void>)[] = [];
  after(async () => {
    await Promise.all(stops.map((stop) => stop()));
  });

  const https = async (answer: Parameters<typeof createHttpsServer>[1], options: TlsOptions = {}): Promise<number> => {
    const { port, stop } = await listen(createHttpsServer({ ...identity, ...options }, answer));
    stops.push(stop);
    return port;
  };
  const raw = async (talk: (socket: TLSSocket) => void): Promise<number> => {
    const server = createTlsServer(identity, (socket) => {
      socket.on("error", () => undefined);
      talk(socket);
    });
    const { port, stop } = await listen(server);
    stops.push(stop);
    return port;
  };
  const go = (port: number, more: Partial<VisitOptions> = {}, serverName = "localhost"): Promise<Visit> =>
    visit(
      { connect: `127.0.0.1:${port}`, serverName },
      { client: null, ca: roots, http: { path: "/", host: null }, graceMs: 20, timeoutMs: 1000, ...more },
    );

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    it(`tells a client who is let in from one whose certificate is revoked, over ${version}`, async () => {
      const port = await https((_request, response) => void response.end("hello"), {
        ...mutual,
        minVersion: version,
        maxVersion: version,
      });
      for (const http of [{ path: "/", host: null }, null]) {
        const good = await go(port, { client: asClient(leaf), http });
        assert.equal(good.kind, http === null ? "open" : "answered", JSON.stringify(good));
        const bad = await go(port, { client: asClient(revoked), http, graceMs: 200 });
        // Node hangs up without an alert: over TLS 1.2 that is amid the handshake and may mean anything.
        assert.equal(bad.kind, version === "TLSv1.3" ? "refused" : "failed", JSON.stringify(bad));
      }
    });
  }

  it("asks for the path as the host, and reads the title of a page that says why", async () => {
    const seen: unknown[] = [];
    const port = await https((request, response) => {
      seen.push([request.method, request.url, request.headers.host]);
      response.writeHead(403, { "content-type": "text/html; charset=utf-8" });
      response.end(`<html><title> 403\u202e Forbidden </title>${"x".repeat(100_000)}`);
    });
    const answer = await go(port, { http: { path: "/healthz?deep", host: "api.example" } });
    assert.deepEqual(seen, [["GET", "/healthz?deep", "api.example"]]);
    assert.ok(answer.kind === "answered" && answer.status === 403);
    assert.match(answer.title ?? "", /^403.* Forbidden$/);
    assert.doesNotMatch(answer.title ?? "", /[^\x20-\x7e]/u);
    await go(port);
    assert.deepEqual(seen[1], ["GET", "/", "localhost"]);
  });

  it("takes the final status, whatever the server says before it", async () => {
    const port = await https((_request, response) => {
      response.writeEarlyHints({ link: "</style.css>; rel=preload" });
      response.writeHead(204).end();
    });
    assert.deepEqual(await go(port), { kind: "answered", status: 204, title: null });
  });

  it("a server that closes after the handshake has turned the client away, without saying why", async () => {
    const answer = await go(await raw((socket) => socket.end()), { http: null, graceMs: 300 });
    assert.deepEqual([answer.kind, answer.kind === "refused" && answer.alert], ["refused", false]);
  });

  it("says nothing of a server that is down, silent, talks something else, or is not the one", async () => {
    const down = await go(await freePort());
    assert.ok(down.kind === "failed" && /ECONNREFUSED/.test(down.why), JSON.stringify(down));
    const silent = await go(await raw(() => undefined), { timeoutMs: 200 });
    assert.ok(silent.kind === "failed" && /no answer within 0\.2 s/.test(silent.why), JSON.stringify(silent));
    const other = await go(await raw((socket) => void socket.once("data", () => socket.end("220 smtp ready\r\n"))));
    assert.ok(other.kind === "failed" && /not HTTP\/1\.1 .*http: none/.test(other.why), JSON.stringify(other));
    const long = await https((_request, response) => void response.setHeader("x", "y".repeat(40_000)).end());
    assert.equal((await go(long)).kind, "failed");
    const port = await https((_request, response) => void response.end());
    const wrongName = await go(port, {}, "elsewhere.test");
    assert.ok(wrongName.kind === "failed" && /does not verify for elsewhere\.test/.test(wrongName.why));
    const stranger = makeTestCa(temporaryDirectory("visit-stranger"));
    const distrusted = await go(port, { ca: [certificatePem(stranger.root.certificate)] });
    assert.ok(distrusted.kind === "failed" && /does not verify/.test(distrusted.why));
  });

  it("a stop of the agent is not taken for a refusal", async () => {
    const stopping = new AbortController();
    const going = go(await raw(() => undefined), {
      signal: stopping.signal,
      http: null,
      graceMs: 5000,
      timeoutMs: 9000,
    });
    setTimeout(() => stopping.abort(), 50);
    const answer = await going;
    assert.ok(answer.kind === "failed" && /the agent is stopping/.test(answer.why), JSON.stringify(answer));
  });

  it("a health check tries again before it calls a server ill", async () => {
    let asked = 0;
    const port = await https((_request, response) => {
      asked += 1;
      response.writeHead(asked < 3 ? 503 : 200).end();
    });
    const probe = { connect: `127.0.0.1:${port}`, serverName: "localhost" };
    const http = { path: "/healthz", host: null, status: [200] };
    assert.equal(await healthProblem(probe, http, { client: null, roots }), null);
    assert.equal(asked, 3);
    asked = 0;
    const problem = await healthProblem(probe, http, { client: null, roots, tries: 1 });
    assert.equal(problem, `unhealthy: GET /healthz of localhost at ${probe.connect}: HTTP 503, not 200`);
  });
});
