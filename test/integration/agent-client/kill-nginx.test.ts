/** kill -9 of the agent between every two steps of its journal, behind real nginx. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { passOnce } from "../../../agent-client/agent.ts";
import { readJournal } from "../../../agent-client/journal.ts";
import { probeOnce } from "../../../agent-client/probe.ts";
import { enroll } from "../../../agent-client/request.ts";
import { nginxFiles, testHost, until } from "../../support/agent.ts";
import { startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";
import { serve } from "../../support/service-process.ts";
import { startService } from "../../support/service.ts";

const serverName = "gateway.claw.internal";
const program = join(import.meta.dirname, "../../support/killable-agent.ts");
const idle = new AbortController().signal;
/** Every arrow of the journal must have been among the places where the agent was killed. */
const arrows = [
  "due",
  "key-made",
  "asked",
  "received",
  "checked",
  "staged",
  "switched",
  "reloaded",
  "served",
  "reported",
  "idle",
];

test(
  "killed between any two steps of its journal the agent leaves a whole set, nginx starts from it, and the renewal completes",
  { skip: needs("nginx"), timeout: 240_000 },
  async () => {
    await using service = await startService();
    await service.admin("POST", "/v1/identities", {
      id: "gateway-1",
      profile: "gateway",
      names: { dns: [serverName], ip: [], uri: [], email: [] },
    });
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    // The children block this process while they run: the service has to be another one.
    await service.server[Symbol.asyncDispose]();
    const process = await serve(service.dataDir);
    const host = testHost({ urls: process.urls, rootsFile: service.rootsFile }, join(service.dir, "host"));
    host.configure({ files: nginxFiles, reload: "watch", probe: "none" });
    {
      await using app = await host.open();
      const [agent] = app.agents;
      assert.ok(agent);
      await enroll(agent, token);
      assert.equal((await passOnce(agent, { force: false }, idle)).failed, false, host.lines.join(""));
    }
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
        check: ["nginx", "-t", "-q", "-c", nginx.config],
        probe: { connect: `127.0.0.1:${nginx.port}`, serverName, timeout: "10s" },
      });
      const killedAt = new Set<string>();
      let generation = 1;
      for (let count = 1; ; count += 1) {
        const killed = run(host.configFile, count, "force");
        const place = killed.lines.at(-1) ?? "";
        if (killed.signal === null) break;
        assert.equal(killed.signal, "SIGKILL");
        killedAt.add(place);

        // Whatever was under way: a whole set, from which nginx starts, and which it serves.
        host.installed();
        assert.ok(nginx.check().ok, `nginx -t after ${place}`);
        await until("nginx answers", async () => "fingerprint" in (await probe(nginx.port)), 5000);

        const resumed = run(host.configFile, 0, "resume");
        assert.equal(resumed.status, 0, `${place}: ${resumed.stderr}`);
        const outcome = JSON.parse(resumed.lines.at(-1) ?? "{}") as { failed: boolean; step: string; pending: boolean };
        assert.deepEqual(
          [outcome.failed, outcome.step, outcome.pending],
          [false, "idle", false],
          `${place}: ${resumed.stderr}`,
        );
        const { current } = await readJournal(join(host.state, "gateway"));
        // Before the request was written down nothing had begun; from then on one renewal is completed, and only one.
        const begun = place !== "due" && place !== "key-made";
        generation += begun ? 1 : 0;
        assert.equal(current?.generation, generation, `one renewal after ${place}`);
        assert.equal(host.installed(), current?.fingerprint);
        const presented = await probe(nginx.port);
        assert.ok(
          "fingerprint" in presented && presented.fingerprint === current?.fingerprint,
          `served after ${place}`,
        );
      }
      assert.deepEqual(
        arrows.filter((arrow) => !killedAt.has(arrow)),
        [],
        "killed at every arrow",
      );
    } finally {
      await nginx.stop();
      await process.stop();
    }
  },
);

function run(config: string, count: number, mode: "force" | "resume") {
  const child = spawnSync(globalThis.process.execPath, [program, config, String(count), mode], {
    encoding: "utf8",
    timeout: 60_000,
  });
  const lines = child.stdout.split("\n").filter((line) => line !== "");
  return { status: child.status, signal: child.signal, lines, stderr: child.stderr };
}

function probe(port: number) {
  return probeOnce({ connect: `127.0.0.1:${port}`, serverName, timeoutMs: 3000 });
}
