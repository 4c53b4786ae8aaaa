/**
 * DefenseClaw speaks plain HTTP on its port: a real nginx in front of it asks for certificates and looks at the CRL. Behind it stands a
 * plain HTTP server with DefenseClaw's health and token, a process of its own that ends at HUP as DefenseClaw does.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { request } from "node:https";
import { nginxFiles, runInBackground, testHost, until } from "../../support/agent.ts";
import { addGateway, installFirst } from "../../support/first-install.ts";
import { credentials, enrolled, use } from "../../support/agent-client.ts";
import { startNginx } from "../../support/nginx.ts";
import { accepts, freePort, startDaemon } from "../../support/processes.ts";
import { needs } from "../../support/programs.ts";
import { startService } from "../../support/service.ts";
import type { Visitor } from "../../support/steady-load.ts";

const serverName = "defenseclaw.claw.internal";
const apiToken = "test-only-token";

test(
  "nginx in front of DefenseClaw lets a good client through with its token, refuses a revoked one, and DefenseClaw is never told of a renewal",
  { skip: needs("nginx"), timeout: 120_000 },
  async () => {
    await using service = await startService();
    const token = await addGateway(service, serverName, "defenseclaw-1");
    const host = testHost(service, join(service.dir, "host"));
    await installFirst(host, token, { files: nginxFiles });
    const sidecar = await startSidecar();
    const nginx = await startNginx({
      dir: join(service.dir, "nginx"),
      certificate: join(host.current, "fullchain.pem"),
      key: join(host.current, "key.pem"),
      clientCa: join(host.current, "ca.pem"),
      crl: join(host.current, "crl.pem"),
      upstream: sidecar.url,
    });
    try {
      host.configure({
        files: nginxFiles,
        reload: { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" },
        probe: { connect: `127.0.0.1:${nginx.port}`, serverName, timeout: "5s" },
      });
      const [good, bad] = [await enrolled(service, "client-1"), await enrolled(service, "client-2")];
      await use(service, good);
      const [friend, thief] = [good, bad].map((client) => ({ ...credentials(client), ca: service.roots }));
      assert.ok(friend && thief);
      await using app = await host.open();
      await using running = runInBackground(app);
      const [agent] = app.agents;
      assert.ok(agent);

      assert.equal(await ask(nginx.port, "/health", friend), 200);
      assert.equal(await ask(nginx.port, "/status", friend), 401, "a certificate does not replace the token");
      assert.equal(await ask(nginx.port, "/status", friend, apiToken), 200);
      assert.equal(
        await ask(nginx.port, "/status", { ca: service.roots }, apiToken),
        400,
        "nor the token a certificate",
      );
      assert.equal(await ask(nginx.port, "/status", thief, apiToken), 200, "not revoked yet");

      await until("the first leaf is in force", () => agent.journal.state.current?.generation === 1);
      agent.view.forced = true;
      agent.wake.now();
      await until("the renewal is in force", () => agent.journal.state.current?.generation === 2);
      await service.admin("POST", "/v1/revocations", { serial: bad.answer.serial, reason: "keyCompromise" });
      const refused = async (): Promise<boolean> => (await ask(nginx.port, "/status", thief, apiToken)) === 400;
      await until("the revoked client is refused", refused, 10_000);
      assert.equal(await ask(nginx.port, "/status", friend, apiToken), 200, "the other one still passes");
      assert.ok(sidecar.isRunning(), "nobody signalled DefenseClaw");
      await running[Symbol.asyncDispose]();
    } finally {
      await nginx.stop();
      await sidecar.stop();
    }
  },
);

/** Ends at HUP, like DefenseClaw, because nothing handles it. */
async function startSidecar() {
  const port = await freePort();
  const program = `require("node:http").createServer((call, answer) => {
    const known = call.url === "/health" || call.headers.authorization === "Bearer ${apiToken}";
    answer.writeHead(known ? 200 : 401).end();
  }).listen(${port}, "127.0.0.1")`;
  const daemon = startDaemon(process.execPath, ["--input-type=commonjs", "--eval", program]);
  assert.ok(await accepts(port, daemon, 20_000), daemon.output());
  const isRunning = (): boolean => daemon.child.exitCode === null && daemon.child.signalCode === null;
  return { url: `http://127.0.0.1:${port}`, isRunning, stop: daemon.stop };
}

/** Status of one GET over a connection of its own. */
function ask(port: number, path: string, client: Partial<Visitor>, token?: string): Promise<number> {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, servername: serverName, agent: false, headers, ...client };
    const call = request(options, (answer) => {
      answer.resume().once("end", () => resolve(answer.statusCode ?? 0));
      answer.once("error", reject);
    });
    call.setTimeout(5000, () => call.destroy(new Error("timeout")));
    call.once("error", reject);
    call.end();
  });
}
