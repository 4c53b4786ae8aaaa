/** OpenClaw's way of taking certificates, by a stand-in: it watches its files, never has to be told, and must never be signalled. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { probeOnce } from "../../../agent-client/probe/probe.ts";
import { runInBackground, testHost, until } from "../../support/agent.ts";
import { addGateway, installFirst } from "../../support/first-install.ts";
import { accepts, freePort, startDaemon } from "../../support/processes.ts";
import { findProgram } from "../../support/programs.ts";
import { startService, type TestService } from "../../support/service.ts";
import { startStandIn, type StandIn } from "../../support/stand-in.ts";
import { versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget, targetName } from "../../support/target.ts";

test(
  "OpenClaw (stand-in) takes five new keys by watching its files without a reset connection, keeps the old leaf when the set is broken, and starts from the files on disk",
  { timeout: 120_000 },
  async () => {
    const gateways: StandIn[] = [];
    const row = await proveTarget({
      target: "OpenClaw (stand-in)",
      how: "watches its files",
      version: "as 2026.9.6",
      traffic: "http",
      clientCertificates: false,
      onBadSet: "keeps-old",
      async start({ dir, port, file }) {
        const gateway = await startStandIn("openclaw", dir, {
          port,
          takes: "watch-files",
          certificate: file("fullchain.pem"),
          key: file("key.pem"),
          ca: null,
          crl: null,
          watched: "",
        });
        gateways.push(gateway);
        return gateway;
      },
      settings,
      async also() {
        assert.ok(gateways[0]?.isRunning(), "never signalled");
      },
    });
    const [first] = gateways;
    assert.match(first?.log() ?? "", /renewal failed; keeping accepted material/);
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);

test(
  "OpenClaw takes five new keys by watching its files, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: findProgram("openclaw") === null && "no openclaw on the PATH", timeout: 300_000 },
  async () => {
    const row = await proveTarget({
      target: "OpenClaw",
      how: "watches its files",
      version: versionOf(["openclaw", "--version"], /(\d{4}\.\d+\.\d+)/),
      traffic: "http",
      clientCertificates: false,
      onBadSet: "keeps-old",
      async start(place) {
        const config = join(place.dir, "openclaw.json");
        writeFileSync(config, JSON.stringify(configuration(place)));
        const places = [`HOME=${place.dir}`, `OPENCLAW_STATE_DIR=${place.dir}/state`, `OPENCLAW_CONFIG_PATH=${config}`];
        const daemon = startDaemon("env", [...places, findProgram("openclaw") ?? "openclaw", "gateway", "run"]);
        assert.ok(await accepts(place.port, daemon, 60_000), daemon.output());
        return { stop: daemon.stop, log: daemon.output };
      },
      settings,
    });
    // Its WebSockets want a sign-in that the traffic does not make: what it says of them is not this gateway's doing.
    assert.equal(row.newConnections.failed, 0);
    assert.equal(row.kept?.resets, 0);
  },
);

test(
  "clients that pin OpenClaw's leaf learn the next one from the admin API before it is served, and never meet a stranger",
  { timeout: 60_000 },
  async () => {
    await using service = await startService();
    const token = await addGateway(service, targetName);
    const host = testHost(service, join(service.dir, "host"));
    const files = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"];
    await installFirst(host, token, { files });
    const port = await freePort();
    const gateway = await startStandIn("openclaw", join(service.dir, "server"), {
      port,
      takes: "watch-files",
      certificate: join(host.current, "fullchain.pem"),
      key: join(host.current, "key.pem"),
      ca: null,
      crl: null,
      watched: "",
    });
    try {
      const told = join(service.dir, "told");
      host.configure({
        files,
        maxFileBytes: 65_536,
        reload: "watch",
        beforeSwitch: { command: ["sh", "-c", `echo "$NEWLEAF_NEXT_FINGERPRINT" >> ${told}`], wait: "1s" },
        probe: {
          connect: `127.0.0.1:${port}`,
          serverName: targetName,
          http: { path: "/healthz", status: 200 },
          timeout: "5s",
        },
      });
      const client = startPinningClient(service, port, host.installed());
      await using app = await host.open();
      await using running = runInBackground(app);
      const [agent] = app.agents;
      assert.ok(agent);
      for (const generation of [2, 3]) {
        agent.view.forced = true;
        agent.wake.now();
        await until(
          `generation ${generation} is in force`,
          () => agent.journal.state.current?.generation === generation,
        );
      }
      const seen = await client.stop();
      await running[Symbol.asyncDispose]();
      assert.deepEqual(seen.strangers, [], host.lines.join(""));
      assert.equal(seen.presented.length, 3, "each leaf was met");
      assert.deepEqual(
        readFileSync(told, "utf8").trim().split("\n"),
        seen.presented.slice(1),
        "the command was told, too",
      );
      const { nextFingerprint } = await service.admin<Shown>("GET", "/v1/identities/gateway-1");
      assert.equal(nextFingerprint, null, "and nothing is announced any more");
    } finally {
      await gateway.stop();
    }
  },
);

function settings(): Readonly<Record<string, unknown>> {
  return { reload: "watch", maxFileBytes: 65_536 };
}

function configuration(place: Place) {
  const tls = {
    enabled: true,
    autoGenerate: false,
    certPath: place.file("fullchain.pem"),
    keyPath: place.file("key.pem"),
  };
  return { gateway: { mode: "local", port: place.port, bind: "loopback", auth: { mode: "none" }, tls } };
}

interface Shown {
  readonly nextFingerprint: string | null;
}

/** Files first: the gateway does not start without. */
/** Connects again and again, knows leaves by their fingerprint only, and looks for the next one where an operator would. */
function startPinningClient(service: TestService, port: number, first: string) {
  const pins = new Set([first]);
  const presented: string[] = [];
  const strangers: string[] = [];
  let over = false;
  const learning = (async () => {
    while (!over) {
      const { nextFingerprint } = await service.admin<Shown>("GET", "/v1/identities/gateway-1");
      if (nextFingerprint !== null) pins.add(nextFingerprint);
      await sleep(100);
    }
  })();
  const visiting = (async () => {
    while (!over) {
      const answer = await probeOnce({ connect: `127.0.0.1:${port}`, serverName: targetName, timeoutMs: 2000 });
      const leaf = "fingerprint" in answer ? answer.fingerprint : answer.error;
      if (!presented.includes(leaf)) presented.push(leaf);
      if (!pins.has(leaf)) strangers.push(leaf);
      await sleep(30);
    }
  })();
  return {
    async stop() {
      over = true;
      await Promise.all([learning, visiting]);
      return { presented, strangers };
    },
  };
}
