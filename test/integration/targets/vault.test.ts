/** Vault's listener, by a stand-in: HUP reads certificate and key again, and nothing else. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { nginxFiles, runInBackground, testHost, until } from "../../support/agent.ts";
import { addGateway, installFirst } from "../../support/first-install.ts";
import { enrolled } from "../../support/agent-client.ts";
import { startFileProxy } from "../../support/file-proxy.ts";
import { startService } from "../../support/service.ts";
import { startStandIn } from "../../support/stand-in.ts";
import { type Place, proveTarget, targetName } from "../../support/target.ts";

const pidFile = (place: Place): string => join(place.dir, "vault.pid");

test(
  "Vault (stand-in) takes five new keys by HUP without a reset connection, keeps the old leaf when the set is broken, and starts from the files on disk",
  { timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Vault (stand-in)",
      how: "SIGHUP",
      version: "as 1.21",
      traffic: "http",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "keeps-old",
      start: (place) =>
        startStandIn("vault", place.dir, {
          port: place.port,
          takes: "hup",
          certificate: place.file("fullchain.pem"),
          key: place.file("key.pem"),
          ca: place.file("ca.pem"),
          crl: null,
          watched: "",
        }),
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "vault" } }),
    });
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);

test(
  "CRLs that Vault could not be told of are not reported as in force until it was, though its leaf is served all along",
  { timeout: 60_000 },
  async () => {
    await using service = await startService();
    const token = await addGateway(service, targetName, "vault-1");
    const host = testHost(service, join(service.dir, "host"));
    await installFirst(host, token, { files: nginxFiles });
    const proxy = await startFileProxy(host.current);
    try {
      const sealed = join(service.dir, "sealed");
      host.configure({
        files: nginxFiles,
        reload: { command: ["sh", "-c", `test ! -e ${sealed} || exit 126`] },
        probe: { connect: proxy.connect, serverName: targetName, timeout: "2s" },
      });
      await using app = await host.open();
      await using running = runInBackground(app);
      const [agent] = app.agents;
      assert.ok(agent);
      const inForce = async (): Promise<number> => {
        const found = await service.server.authority.store.findReport("vault-1");
        return Math.max(...Object.values(found?.report.crls ?? {}));
      };
      await until("the first CRLs are in force", async () => agent.view.feedAlive && (await inForce()) === 1);

      writeFileSync(sealed, "");
      const from = host.lines.length;
      const client = await enrolled(service, "client-1");
      await service.admin("POST", "/v1/revocations", { serial: client.answer.serial, reason: "keyCompromise" });
      await until("the agent knows that it could not tell", () => agent.journal.state.notServed !== null);
      await until("and has reported", () => host.lines.slice(from).some((line) => line.includes(" report ")));
      assert.equal(await inForce(), 1);

      rmSync(sealed);
      await until("the new CRL is in force", async () => (await inForce()) === 2);
      assert.equal(agent.journal.state.notServed, null);
      await running[Symbol.asyncDispose]();
    } finally {
      await proxy.stop();
    }
  },
);
