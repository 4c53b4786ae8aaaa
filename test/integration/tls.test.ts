import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import type { X509Certificate } from "node:crypto";
import { connect as tcpConnect } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { use } from "../support/agent-client.ts";
import { needs } from "../support/programs.ts";
import { startService, type TestService } from "../support/service.ts";

const run = promisify(execFile);
let service: TestService;

function handshake(listener: "agents" | "enrollment" | "admin", options: ConnectionOptions = {}): Promise<TLSSocket> {
  const port = Number(new URL(service.urls[listener]).port);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, servername: "localhost", ca: service.roots, ...options });
    socket.once("secureConnect", () => resolve(socket));
    socket.once("error", reject);
  });
}

async function failures(listener: string, reason: string): Promise<number> {
  const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
  const line = new RegExp(
    `^newleaf_tls_handshake_failures_total\\{listener="${listener}",reason="${reason}"\\} (\\d+)$`,
    "m",
  );
  return Number(line.exec(text)?.[1] ?? 0);
}

/** The server hears of it a moment after the client. */
async function counted(listener: string, reason: string, act: () => Promise<unknown>): Promise<void> {
  const before = await failures(listener, reason);
  await act();
  for (let attempt = 0; attempt < 50 && (await failures(listener, reason)) === before; attempt++) await sleep(20);
  assert.equal(await failures(listener, reason), before + 1, `${listener} ${reason}`);
}

describe("TLS of the listeners", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("speaks TLS 1.3 with the post-quantum hybrid first, and resumes no session", async () => {
    for (const listener of ["agents", "enrollment", "admin"] as const) {
      const socket = await handshake(listener);
      const sessions: Buffer[] = [];
      socket.on("session", (session) => sessions.push(session));
      assert.equal(socket.getProtocol(), "TLSv1.3");
      const key = socket.getEphemeralKeyInfo() as { name?: string };
      assert.equal(key.name, "X25519MLKEM768");
      await sleep(50);
      socket.destroy();
      for (const session of sessions) {
        const again = await handshake(listener, { session });
        assert.equal(again.isSessionReused(), false);
        again.destroy();
      }
    }
  });

  it("refuses TLS 1.2 unless it is switched on, and then allows only ECDHE with AEAD", async () => {
    await counted("agents", "protocol", () => assert.rejects(handshake("agents", { maxVersion: "TLSv1.2" })));
    await using older = await startService({ NEWLEAF_TLS_MIN_VERSION: "1.2" });
    const port = Number(new URL(older.urls.agents).port);
    const try12 = (ciphers?: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect({
          host: "127.0.0.1",
          port,
          servername: "localhost",
          ca: older.roots,
          maxVersion: "TLSv1.2",
          ...(ciphers === undefined ? {} : { ciphers }),
        });
        socket.once("secureConnect", () => {
          resolve(socket.getCipher().name);
          socket.destroy();
        });
        socket.once("error", reject);
      });
    assert.match(await try12(), /^ECDHE-ECDSA-(AES|CHACHA)/);
    await assert.rejects(try12("ECDHE-ECDSA-AES128-SHA"));
  });

  it("counts failed handshakes by reason, once for each connection", { skip: needs("openssl") }, async () => {
    await counted("agents", "no-certificate", () =>
      assert.rejects(use(service, anonymous), { code: "client-certificate-required" }),
    );
    await counted("enrollment", "peer-distrusts-us", () => assert.rejects(distrustingClient("enrollment")));
    await counted("enrollment", "protocol", () => plainText("enrollment"));
  });

  it("names its hosts, localhost and both loopback addresses, and replaces its certificate without a restart", async () => {
    const days = 86_400_000;
    await using older = await startService({}, { clockOffset: -25 * days });
    const port = Number(new URL(older.urls.enrollment).port);
    const look = (): Promise<X509Certificate> =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: "127.0.0.1", port, servername: "localhost", ca: older.roots });
        socket.once("error", reject);
        socket.once("secureConnect", () => {
          const certificate = socket.getPeerX509Certificate();
          socket.destroy();
          if (certificate === undefined) reject(new Error("no certificate"));
          else resolve(certificate);
        });
      });
    const before = await look();
    assert.ok(before.checkHost("localhost"));
    assert.ok(before.checkIP("127.0.0.1"));
    assert.ok(before.checkIP("::1"));
    older.clock.advance(25 * days);
    for (let attempt = 0; attempt < 400; attempt++) {
      if ((await look()).serialNumber !== before.serialNumber) return;
      await sleep(25);
    }
    assert.fail("the service kept its old certificate past its renewal window");
  });
});

/** A host without a certificate. */
const anonymous = { answer: { certificate: "", chain: "" }, key: { export: () => "" } } as unknown as Parameters<
  typeof use
>[1];

/** Unlike Node's, openssl's client says in an alert that it does not trust us. */
function distrustingClient(listener: "enrollment"): Promise<unknown> {
  const { port } = new URL(service.urls[listener]);
  const client = run("openssl", [
    "s_client",
    "-connect",
    `127.0.0.1:${port}`,
    "-verify_return_error",
    "-verify",
    "3",
    "-no-CAfile",
    "-no-CApath",
  ]);
  client.child.stdin?.end();
  return client;
}

async function plainText(listener: "enrollment"): Promise<void> {
  const port = Number(new URL(service.urls[listener]).port);
  await new Promise<void>((resolve) => {
    const socket = tcpConnect(port, "127.0.0.1", () => socket.end("GET / HTTP/1.1\r\n\r\n"));
    socket.on("close", () => resolve());
    socket.on("error", () => resolve());
    socket.resume();
  });
}
