import assert from "node:assert/strict";
import { createServer, type Server } from "node:https";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { until } from "../../support/agent.ts";
import { startBackend } from "../../support/backend.ts";
import { startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeTestCa, type TestLeaf } from "../../support/test-ca.ts";
import { startTraffic } from "../../support/traffic.ts";

describe("traffic", { skip: needs("openssl", "nginx") }, () => {
  const directory = temporaryDirectory("traffic");
  const pki = makeTestCa(directory);
  const ca = certificatePem(pki.root.certificate);
  const pair = (leaf: TestLeaf) => ({
    cert: certificatePem(leaf.certificate, pki.intermediate.certificate),
    key: keyPem(leaf.key),
  });

  it("counts what a server does to its connections, and which leaves it shows when", async () => {
    const [first, second] = [pki.intermediate.issue(), pki.intermediate.issue()];
    let behaviour: "good" | "cut" | "busy" = "good";
    const server = createServer(pair(first), (call, answer) => {
      if (behaviour === "cut") call.socket.destroy();
      else answer.writeHead(behaviour === "busy" ? 503 : 200).end("ok");
    });
    const port = await listen(server);
    await using traffic = await startTraffic({
      port,
      serverName: "localhost",
      ca,
      kind: "http",
      newLoops: 1,
      kept: 5,
      webSockets: 0,
    });
    await until("all were served", () => traffic.report.kept.requests > 20);
    assert.deepEqual(traffic.report.newConnections.failed, []);
    assert.equal(traffic.report.kept.resets, 0);

    server.setSecureContext(pair(second));
    behaviour = "cut";
    await until("all were cut", () => traffic.report.kept.resets === 5 && traffic.report.kept.failed.length > 0);
    behaviour = "busy";
    await until("all were put off", () => traffic.report.newConnections.failed.join().includes("status 503"));
    const report = await traffic.stop();
    server.closeAllConnections();
    server.close();
    assert.equal(report.kept.resets, 5, "each kept connection dies once as a used one, then as a new one");
    assert.match(report.kept.failed.join("\n"), /ECONNRESET/);
    assert.match(report.newConnections.failed.join("\n"), /ECONNRESET/);
    assert.match(report.newConnections.failed.join("\n"), /status 503/);
    assert.deepEqual(
      report.presented.map((leaf) => leaf.fingerprint),
      [fingerprint(first.certificate), fingerprint(second.certificate)],
    );
    const [old, fresh] = report.presented;
    assert.ok(old !== undefined && fresh !== undefined && old.lastSeenAt <= fresh.firstSeenAt);
  });

  it("holds WebSockets through nginx, and notices that they are cut", async () => {
    const { cert, key } = pair(pki.intermediate.issue());
    const [certificate, keyFile] = [join(directory, "cert.txt"), join(directory, "key.txt")];
    writeFileSync(certificate, cert);
    writeFileSync(keyFile, key, { mode: 0o600 });
    await using backend = await startBackend();
    const dir = join(directory, "nginx");
    const nginx = await startNginx({ dir, certificate, key: keyFile, upstream: backend.url });
    try {
      const options = { port: nginx.port, serverName: "localhost", ca, kind: "http", newLoops: 1, kept: 3 } as const;
      await using traffic = await startTraffic(options);
      await until("all were served", () => traffic.report.kept.requests > 10);
      assert.deepEqual(traffic.report.webSockets, { opened: 2, cut: 0 });
      for (const worker of nginx.workers()) process.kill(worker, "SIGKILL");
      await until("they are open again", () => traffic.report.webSockets.opened === 4);
      assert.equal((await traffic.stop()).webSockets.cut, 2);
    } finally {
      await nginx.stop();
    }
  });

  it("makes handshakes only, for servers that do not speak HTTP", async () => {
    const server = createServer(pair(pki.intermediate.issue()));
    const port = await listen(server);
    await using traffic = await startTraffic({ port, serverName: "localhost", ca, kind: "handshake", newLoops: 2 });
    await until("handshakes were made", () => traffic.report.newConnections.made > 4);
    server.close();
    server.closeAllConnections();
    await until("they fail", () => /ECONNREFUSED/.test(traffic.report.newConnections.failed.join()));
    const report = await traffic.stop();
    assert.equal(report.presented.length, 1);
  });
});

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}
