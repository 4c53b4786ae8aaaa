/** A real Prometheus beside a service, an agent and nginx: the rules load, and every query of the dashboard finds something. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { nginxFiles, runInBackground, testHost, until } from "../support/agent.ts";
import { call, csrFor, enrolled, newKey, renew, settled } from "../support/agent-client.ts";
import { dashboardQueries } from "../support/dashboard.ts";
import { addGateway, installFirst } from "../support/first-install.ts";
import { startNginx } from "../support/nginx.ts";
import { accepts, freePort, startDaemon } from "../support/processes.ts";
import { findProgram, needs } from "../support/programs.ts";
import { startService, type TestService } from "../support/service.ts";

const serverName = "gateway.claw.internal";
const deploy = join(import.meta.dirname, "../../deploy/prometheus");

test(
  "every query of the dashboard returns data, and the rules load and are quiet where all is well",
  { skip: needs("prometheus", "promtool", "nginx"), timeout: 90_000 },
  async () => {
    await using service = await startService();
    const token = await addGateway(service, serverName);
    const host = testHost(service, join(service.dir, "host"));
    await installFirst(host, token, { files: nginxFiles });
    const nginx = await startNginx({
      dir: join(service.dir, "nginx"),
      certificate: join(host.current, "fullchain.pem"),
      key: join(host.current, "key.pem"),
    });
    const metricsPort = await freePort();
    host.configure(
      {
        files: nginxFiles,
        reload: { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" },
        probe: { connect: `127.0.0.1:${nginx.port}`, serverName, timeout: "5s" },
      },
      { metrics: `127.0.0.1:${metricsPort}` },
    );
    await using app = await host.open();
    await using running = runInBackground(app);
    const opsPort = Number(new URL(service.urls.ops).port);
    const prometheus = await startPrometheus(join(service.dir, "prometheus"), opsPort, metricsPort);
    try {
      const query = async (expr: string): Promise<readonly unknown[]> => {
        const url = `${prometheus.url}/api/v1/query?query=${encodeURIComponent(expr)}`;
        const { data } = (await (await fetch(url)).json()) as { data: { result: readonly unknown[] } };
        return data.result;
      };
      await until("both are scraped", async () => (await query("up == 1")).length === 2);
      await happenings(service, 1);
      await sleep(2_500);
      await happenings(service, 2);

      await until(
        "the agent has proven its certificate",
        async () => (await query("newleaf_agent_served_matches == 1")).length === 1,
      );
      await sleep(2_500);
      const empty: string[] = [];
      for (const { panel, expr } of dashboardQueries())
        if ((await query(expr)).length === 0) empty.push(`${panel}: ${expr}`);
      assert.deepEqual(empty, []);

      for (const port of [opsPort, metricsPort]) {
        const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
        const said = execFileSync(findProgram("promtool") ?? "promtool", ["check", "metrics"], { input: text });
        assert.equal(said.toString(), "");
      }

      const rules = (await (await fetch(`${prometheus.url}/api/v1/rules`)).json()) as {
        data: { groups: readonly { rules: readonly { name: string; health: string }[] }[] };
      };
      const loaded = rules.data.groups.flatMap((group) => group.rules);
      assert.ok(loaded.length > 40, `${loaded.length} rules`);
      assert.deepEqual(
        loaded.filter(({ health }) => health === "err"),
        [],
      );
      await running[Symbol.asyncDispose]();
    } finally {
      await prometheus.stop();
      await nginx.stop();
    }
  },
);

/** One of everything that is counted. */
async function happenings(service: TestService, round: number): Promise<void> {
  const host = await settled(service, `host-${round}`);
  await renew(service, host);
  await assert.rejects(
    call(service, "agents", "POST", "/v1/renewals", {
      host,
      body: { csr: csrFor(await newKey(), { dns: ["somebody.else.internal"] }) },
    }),
    { code: "names-not-permitted" },
  );
  const gone = await enrolled(service, `gone-${round}`);
  await service.admin("POST", "/v1/revocations", { serial: gone.answer.serial, reason: "superseded" });
  await assert.rejects(call(service, "agents", "GET", "/v1/renewal-window", { host: gone }), {
    code: "certificate-revoked",
  });
}

async function startPrometheus(dir: string, opsPort: number, agentPort: number) {
  mkdirSync(dir, { recursive: true });
  for (const name of ["service-rules.yml", "agent-rules.yml"]) cpSync(join(deploy, name), join(dir, name));
  const scrape = (job: string, port: number) => ({
    job_name: job,
    static_configs: [{ targets: [`127.0.0.1:${port}`] }],
  });
  const config = {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: ["service-rules.yml", "agent-rules.yml"],
    scrape_configs: [scrape("newleaf", opsPort), scrape("newleaf-agent", agentPort)],
  };
  writeFileSync(join(dir, "prometheus.yml"), stringify(config));
  const port = await freePort();
  const daemon = startDaemon(findProgram("prometheus") ?? "prometheus", [
    `--config.file=${join(dir, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(dir, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ]);
  if (!(await accepts(port, daemon, 15_000))) throw new Error(`prometheus did not start: ${daemon.output()}`);
  const url = `http://127.0.0.1:${port}`;
  // It listens before it has read its storage.
  await until("Prometheus is ready", async () => (await fetch(`${url}/-/ready`)).ok);
  return { url, stop: () => daemon.stop() };
}
