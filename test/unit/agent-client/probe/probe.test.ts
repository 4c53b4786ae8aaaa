import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { SecureContext, TlsOptions } from "node:tls";
import type { Material } from "../../../../agent-client/install/material.ts";
import {
  type Expectation,
  parseEndpoint,
  probeOnce,
  probeServed,
  type ProbeTarget,
  type ProbeVerdict,
} from "../../../../agent-client/probe/probe.ts";
import { fingerprint } from "../../../../shared/fingerprint.ts";
import { makeMaterial } from "../../../support/material.ts";
import { freePort } from "../../../support/processes.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeTestCa } from "../../../support/test-ca.ts";
import { contextOf, listen, startTlsServer, type TlsServer } from "../../../support/tls-server.ts";

const skip = needs("openssl");
const pki = skip === false ? makeTestCa(temporaryDirectory("probe")) : undefined;
const ca = (): NonNullable<typeof pki> => {
  if (pki === undefined) throw new Error("no openssl");
  return pki;
};
const servers: { stop(): Promise<void> }[] = [];
after(async () => {
  await Promise.all(servers.map((server) => server.stop()));
});
const start = async (context: SecureContext | (() => SecureContext), options?: TlsOptions): Promise<TlsServer> => {
  const server = await startTlsServer(context, options);
  servers.push(server);
  return server;
};
const idOf = (material: Material): string => fingerprint(material.leaf);
/** Demands a client certificate and refuses whoever has none. */
const mutual = (): TlsOptions => ({
  requestCert: true,
  rejectUnauthorized: true,
  ca: certificatePem(ca().root.certificate),
});

describe("probeOnce", { skip }, () => {
  const material = makeMaterial(ca());
  const context = contextOf(material);
  const once = (connect: string, more: Partial<ProbeTarget> = {}): ReturnType<typeof probeOnce> =>
    probeOnce({ connect, serverName: "localhost", timeoutMs: 2000, ...more });

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    it(`sees the leaf over ${version}, also of a server that refuses clients without a certificate`, async () => {
      for (const options of [{}, mutual()]) {
        const { connect } = await start(context, { minVersion: version, maxVersion: version, ...options });
        const answer = await once(connect);
        assert.deepEqual(answer, { fingerprint: idOf(material), leaf: material.leaf, protocol: version });
      }
    });
  }

  it("never resumes a session", async () => {
    const server = await start(context);
    for (let handshake = 1; handshake <= 4; handshake += 1) {
      await once(server.connect);
      await until(() => server.sockets.length === handshake);
    }
    assert.equal(
      server.sockets.some((socket) => socket.isSessionReused()),
      false,
    );
  });

  it("sends the server name, but never an address, as SNI", async () => {
    const [key, cert] = [keyPem(material.key), certificatePem(material.leaf)];
    const server = await start(context, { key, cert });
    await once(server.connect);
    await once(server.connect, { serverName: "127.0.0.1" });
    await until(() => server.sockets.length === 2);
    assert.deepEqual(
      server.sockets.map((socket) => socket.servername),
      ["localhost", false],
    );
  });

  it("tells a server that is down from one that fails", async () => {
    const refused = await once(`127.0.0.1:${await freePort()}`);
    assert.ok("error" in refused && !refused.reachable && /ECONNREFUSED/.test(refused.error), JSON.stringify(refused));
    const silent = await listen(createServer());
    const rude = await listen(createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")));
    const hangsUp = await listen(createServer((socket) => socket.destroy()));
    servers.push(silent, rude, hangsUp);
    for (const [port, says] of [
      [silent.port, /no handshake within 0\.2 s/],
      [rude.port, /wrong version number|packet length|SSL/i],
      [hangsUp.port, /closed|ECONNRESET|disconnected/],
    ] as const) {
      const answer = await once(`127.0.0.1:${port}`, { timeoutMs: 200 } as Partial<ProbeTarget>);
      assert.ok("error" in answer && answer.reachable, JSON.stringify(answer));
      assert.match(answer.error, says);
    }
  });

  it("closes the connection in order: the server sees no error", async () => {
    const errors: Error[] = [];
    const server = await start(context, { maxVersion: "TLSv1.3" });
    await once(server.connect);
    await until(() => server.sockets.length === 1);
    const [socket] = server.sockets;
    socket?.on("error", (error) => errors.push(error));
    await until(() => socket?.readableEnded === true);
    assert.deepEqual(errors, []);
  });

  it("reads endpoints, and says how they are written", () => {
    assert.deepEqual(parseEndpoint("127.0.0.1:9443"), { host: "127.0.0.1", port: 9443 });
    assert.deepEqual(parseEndpoint("gateway.claw.internal:443"), { host: "gateway.claw.internal", port: 443 });
    assert.deepEqual(parseEndpoint("[::1]:443"), { host: "::1", port: 443 });
    for (const text of [
      "",
      "host",
      "host:",
      ":443",
      "host:0",
      "host:65536",
      "::1:443",
      "[host]:443",
      "https://h:1",
      "h:1 ",
    ]) {
      assert.throws(() => parseEndpoint(text), /host:port/, text);
    }
  });

  it("answers an address that cannot be connected to with an error", async () => {
    assert.ok("error" in (await once("nonsense")));
    assert.ok("error" in (await once("no-such-host.invalid:443")));
  });
});

describe("probeServed", { skip }, () => {
  const clock = { now: () => Date.now() };
  const fast = { handshakes: 8, overMs: 80, everyMs: 10 };
  /** For what will not be served however long one waits. */
  const short = { timeoutMs: 400 };
  const older = makeMaterial(ca());
  const newer = makeMaterial(ca());
  const probe = (connect: string, more: Partial<Expectation> = {}, serverName = "localhost"): Promise<ProbeVerdict> =>
    probeServed(
      { connect, serverName },
      {
        expected: idOf(newer),
        previous: idOf(older),
        roots: [ca().root.certificate],
        timeoutMs: 10_000,
        steady: fast,
        ...more,
      },
      clock,
    );

  it("is content only after eight handshakes over half a second, and one that verifies", async () => {
    const server = await start(contextOf(newer));
    const began = performance.now();
    const verdict = await probeServed(
      { connect: server.connect, serverName: "localhost" },
      { expected: idOf(newer), previous: null, roots: [ca().root.certificate] },
      clock,
    );
    assert.equal(verdict.outcome, "served");
    assert.equal(verdict.handshakes, 9);
    assert.ok(performance.now() - began >= 500);
    assert.equal(verdict.fingerprint, idOf(newer));
  });

  it("is not deceived by answers that flap between old and new", async () => {
    let handshake = 0;
    const [old, fresh] = [contextOf(older), contextOf(newer)];
    const pattern = [old, fresh, old, fresh, fresh, fresh, fresh, fresh, fresh, fresh, old];
    const server = await start(() => {
      handshake += 1;
      return pattern[handshake - 1] ?? fresh;
    });
    const verdict = await probe(server.connect, { timeoutMs: 10_000 });
    assert.equal(verdict.outcome, "served");
    assert.ok(verdict.handshakes >= pattern.length + 9, String(verdict.handshakes));
  });

  it("says old while the old leaf is served, flapping or not", async () => {
    const server = await start(contextOf(older));
    const verdict = await probe(server.connect, short);
    assert.deepEqual([verdict.outcome, verdict.fingerprint, verdict.reachable], ["old", idOf(older), true]);
    let turn = 0;
    const [old, fresh] = [contextOf(older), contextOf(newer)];
    const flapping = await start(() => ((turn += 1) % 2 === 0 ? old : fresh));
    assert.equal((await probe(flapping.connect, short)).outcome, "old");
  });

  it("says other for a leaf that is neither", async () => {
    const stranger = makeMaterial(ca(), { leaf: { commonName: "stranger" } });
    const server = await start(contextOf(stranger));
    const verdict = await probe(server.connect, short);
    assert.deepEqual([verdict.outcome, verdict.fingerprint], ["other", idOf(stranger)]);
    assert.match(verdict.detail, /CN=stranger/);
    assert.equal((await probe(server.connect, { ...short, previous: null })).outcome, "other");
  });

  it("finishes a run that has begun before the deadline", async () => {
    const server = await start(contextOf(older));
    setTimeout(() => server.serve(contextOf(newer)), 500);
    // Begins half a second before the deadline, needs a whole one.
    const steady = { handshakes: 8, overMs: 1000, everyMs: 10 };
    assert.equal((await probe(server.connect, { timeoutMs: 1000, steady })).outcome, "served");
  });

  it("waits for a server that is still starting", async () => {
    const port = await freePort();
    const probing = probe(`127.0.0.1:${port}`, { timeoutMs: 10_000 });
    await sleep(200);
    const server = await startTlsServer(contextOf(newer));
    const { createServer: createTcp, connect } = await import("node:net");
    const relay = createTcp((socket) => {
      const onward = connect(server.port, "127.0.0.1");
      socket.on("error", () => onward.destroy());
      onward.on("error", () => socket.destroy());
      socket.pipe(onward).pipe(socket);
    });
    servers.push(await listen(relay, port), server);
    assert.equal((await probing).outcome, "served");
  });

  it("says broken: at the deadline when nobody listens, and soon when every handshake fails", async () => {
    const refused = await probe(`127.0.0.1:${await freePort()}`, short);
    assert.deepEqual([refused.outcome, refused.fingerprint, refused.reachable], ["broken", null, false]);
    const hangsUp = await listen(createServer((socket) => socket.destroy()));
    servers.push(hangsUp);
    const began = performance.now();
    const failing = await probe(`127.0.0.1:${hangsUp.port}`, { timeoutMs: 20_000 });
    assert.deepEqual([failing.outcome, failing.reachable], ["broken", true]);
    assert.ok(performance.now() - began < 8000);
  });

  it("says unverified without the intermediate, for another name, and for another root", async () => {
    const alone = await probe((await start(contextOf(newer, { chain: false }))).connect);
    assert.equal(alone.outcome, "unverified");
    assert.match(alone.detail, /fullchain\.pem/);
    const server = await start(contextOf(newer));
    const named = await probe(server.connect, {}, "other.test");
    assert.equal(named.outcome, "unverified");
    assert.match(named.detail, /other\.test: .*does not hold this name/);
    const stranger = makeTestCa(temporaryDirectoryFor("stranger"));
    assert.equal((await probe(server.connect, { roots: [stranger.root.certificate] })).outcome, "unverified");
  });

  it("says unverified for a leaf that may not be a server's, or is expired", async () => {
    const client = makeMaterial(ca(), { leaf: { extendedKeyUsage: ["clientAuth"] } });
    const verdict = await probe((await start(contextOf(client))).connect, { expected: idOf(client) });
    assert.equal(verdict.outcome, "unverified");
    assert.match(verdict.detail, /profile/);
    const expired = makeMaterial(ca(), { leaf: { notBefore: Date.now() - 90_000, notAfter: Date.now() - 30_000 } });
    const late = await probe((await start(contextOf(expired))).connect, { expected: idOf(expired) });
    assert.equal(late.outcome, "unverified");
    assert.match(late.detail, /EXPIRED/);
  });

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    it(`verifies a server that refuses us over ${version}`, async () => {
      const [key, cert] = [keyPem(newer.key), certificatePem(newer.leaf, ...newer.chain)];
      const options = { ...mutual(), key, cert, minVersion: version, maxVersion: version };
      const server = await start(contextOf(newer), options);
      assert.equal((await probe(server.connect)).outcome, "served");
      assert.equal((await probe(server.connect, {}, "127.0.0.1")).outcome, "served");
      assert.equal((await probe(server.connect, {}, "other.test")).outcome, "unverified");
      const alone = await start(contextOf(newer, { chain: false }), options);
      assert.equal((await probe(alone.connect)).outcome, "unverified");
    });
  }

  it("stops when the agent does", async () => {
    const stop = new AbortController();
    const server = await start(contextOf(older));
    setTimeout(() => stop.abort(), 100);
    const began = performance.now();
    assert.notEqual((await probe(server.connect, { timeoutMs: 20_000, signal: stop.signal })).outcome, "served");
    assert.ok(performance.now() - began < 2000);
  });
});

function temporaryDirectoryFor(name: string): string {
  return temporaryDirectory(`probe-${name}`);
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !holds(); tries += 1) await sleep(10);
  assert.ok(holds(), "waited five seconds");
}
