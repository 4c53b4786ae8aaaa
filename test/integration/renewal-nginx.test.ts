/** Real service, real agent, real nginx with client certificates and CRL, and visitors that never pause. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { nginxFiles, runInBackground, testHost, until } from "../support/agent.ts";
import { addGateway, installFirst } from "../support/first-install.ts";
import { credentials, enrolled, use } from "../support/agent-client.ts";
import { startNginx } from "../support/nginx.ts";
import { needs } from "../support/programs.ts";
import { startService } from "../support/service.ts";
import { startLoad, visit } from "../support/steady-load.ts";

const serverName = "gateway.claw.internal";

test(
  "three renewals pass under load without one failed handshake, and a revoked client is refused once the CRL is there",
  { skip: needs("nginx"), timeout: 120_000 },
  async () => {
    await using service = await startService();
    const token = await addGateway(service, serverName);
    const host = testHost(service, join(service.dir, "host"));

    // Nothing is served yet: files first, so that nginx can start from them.
    await installFirst(host, token, { files: nginxFiles });
    const nginx = await startNginx({
      dir: join(service.dir, "nginx"),
      certificate: join(host.current, "fullchain.pem"),
      key: join(host.current, "key.pem"),
      clientCa: join(host.current, "ca.pem"),
      crl: join(host.current, "crl.pem"),
    });
    try {
      host.configure({
        files: nginxFiles,
        reload: { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" },
        probe: { connect: `127.0.0.1:${nginx.port}`, serverName, timeout: "5s" },
      });
      const [first, second] = [await enrolled(service, "client-1"), await enrolled(service, "client-2")];
      await use(service, first);
      const visitor = { ...credentials(first), ca: service.roots };
      const thief = { ...credentials(second), ca: service.roots };

      await using app = await host.open();
      await using running = runInBackground(app);
      await using load = startLoad(nginx.port, serverName, visitor);
      const [agent] = app.agents;
      assert.ok(agent);
      for (let renewal = 1; renewal <= 3; renewal += 1) {
        agent.view.forced = true;
        agent.wake.now();
        await until(`renewal ${renewal} is in force`, () => agent.journal.state.current?.generation === renewal + 1);
        await until(`renewal ${renewal} is seen`, () => load.presented.length === renewal + 1);
      }
      assert.equal((await visit(nginx.port, serverName, thief)).status, 200, "not revoked yet");

      const revokedAt = Date.now();
      await service.admin("POST", "/v1/revocations", { serial: second.answer.serial, reason: "keyCompromise" });
      await until(
        "nginx refuses the revoked client",
        async () => (await visit(nginx.port, serverName, thief)).status === 400,
        10_000,
      );
      const took = Date.now() - revokedAt;
      assert.equal((await visit(nginx.port, serverName, visitor)).status, 200, "the other client still passes");

      await load.stop();
      await running[Symbol.asyncDispose]();
      assert.deepEqual(load.failures, [], `of ${load.requests} requests\n${host.lines.join("")}`);
      assert.ok(load.requests > 300, `${load.requests} requests`);
      assert.ok(took < 8000, `refused after ${took} ms`);
      assert.ok(nginx.check().ok, "nginx would start from what is on disk");
      assert.ok(load.presented.includes(host.installed()));
    } finally {
      await nginx.stop();
    }
    assert.doesNotMatch(host.lines.join(""), /PRIVATE KEY|nl1\./, "no secret in the log");
    const journal = await readFile(join(host.state, "gateway", "journal.json"), "utf8");
    assert.doesNotMatch(journal, /PRIVATE KEY|nl1\./, "nor in the journal");
  },
);
