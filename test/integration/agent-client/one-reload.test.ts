/** Two certificates of one nginx, chosen by SNI, and one agent: renewed together they cost the server one reload. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { stringify } from "yaml";
import { passOnce } from "../../../agent-client/agent.ts";
import { type AgentApp, openAgent } from "../../../agent-client/app.ts";
import { loadConfig } from "../../../agent-client/config/config.ts";
import { createLog } from "../../../agent-client/log.ts";
import { renewCommand } from "../../../agent-client/commands.ts";
import { enroll } from "../../../agent-client/request.ts";
import { runInBackground, until } from "../../support/agent.ts";
import { startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";
import { startService } from "../../support/service.ts";

const names = ["gateway", "api"];
const serverName = (name: string): string => `${name}.claw.internal`;
const idle = new AbortController().signal;

test(
  "two certificates of one nginx that renew together share a reload, and both are served",
  { skip: needs("nginx"), timeout: 60_000 },
  async () => {
    await using service = await startService();
    const configFile = join(service.dir, "agent.yml");
    const textfile = join(service.dir, "newleaf.prom");
    const lines: string[] = [];
    const log = createLog((line) => void lines.push(line), Date.now);
    const configure = (reload: unknown, port: number | null): void => {
      const certificates = names.map((name) => ({
        name,
        directory: join(service.dir, name),
        files: ["key.pem", "fullchain.pem", "ca.pem"],
        reload,
        probe: port === null ? "none" : { connect: `127.0.0.1:${port}`, serverName: serverName(name), timeout: "5s" },
      }));
      const { agents: server, enrollment } = service.urls;
      const state = join(service.dir, "state");
      writeFileSync(
        configFile,
        stringify({ server, enrollment, roots: service.rootsFile, state, textfile, certificates }),
      );
    };
    const open = (): Promise<AgentApp> => openAgent(loadConfig(configFile), { purpose: "test", name: null }, { log });

    configure("watch", null);
    {
      await using app = await open();
      for (const agent of app.agents) {
        const id = agent.config.name;
        await service.admin("POST", "/v1/identities", {
          id,
          profile: "gateway",
          names: { dns: [serverName(id)], ip: [], uri: [], email: [] },
        });
        await enroll(agent, await service.token(id));
        const pass = await passOnce(agent, { force: false }, idle);
        assert.equal(pass.failed, false, lines.join(""));
      }
    }
    const [first, second] = names.map((name) => {
      const current = join(service.dir, name, "current");
      return { name: serverName(name), certificate: join(current, "fullchain.pem"), key: join(current, "key.pem") };
    });
    assert.ok(first && second);
    const nginx = await startNginx({ dir: join(service.dir, "nginx"), ...first, servers: [second] });
    try {
      const reloads = (): number => nginx.errorLog().match(/signal 1 \(SIGHUP\) received/g)?.length ?? 0;
      configure({ signal: "HUP", pidFile: nginx.pidFile, process: "nginx" }, nginx.port);
      {
        await using app = await open();
        await using running = runInBackground(app);
        assert.ok(running);
        // Another strategy: nginx is told once of what it has.
        await until("both are told and reported", () => app.agents.every(isSettled));
        const before = reloads();
        assert.ok(before <= 1, `${before} reloads for two certificates`);
        for (const agent of app.agents) {
          agent.view.forced = true;
          agent.wake.now();
        }
        await until("both are in force", () =>
          app.agents.every((agent) => isSettled(agent) && agent.journal.state.current?.generation === 2),
        );
        assert.equal(reloads() - before, 1, lines.join(""));
        assert.equal(
          lines.filter((line) => / info served /.test(line) && /handshakes, verified/.test(line)).length >= 2,
          true,
        );
      }
      // So does one pass over both, as a timer makes it.
      const before = reloads();
      const said: string[] = [];
      const terminal = { out: (text: string) => void said.push(text), error: (text: string) => void said.push(text) };
      const options = { config: configFile, name: null, force: true, adopt: false };
      assert.equal(await renewCommand(options, terminal, idle, { log }), 0, said.join("") + lines.join(""));
      assert.equal(said.filter((text) => /: renewed, serial .*; served; until/.test(text)).length, 2, said.join(""));
      assert.equal(reloads() - before, 1, lines.join(""));

      // A pass over one of them leaves the other in the file for node_exporter.
      await renewCommand({ ...options, name: "api", force: false }, terminal, idle, { log });
      const metrics = readFileSync(textfile, "utf8");
      for (const name of names) assert.match(metrics, new RegExp(`served_matches\\{certificate="${name}"\\} 1`));
    } finally {
      await nginx.stop();
    }
  },
);

function isSettled({ journal: { state } }: AgentApp["agents"][number]): boolean {
  return state.next === null && state.notServed === null && state.served?.fingerprint === state.current?.fingerprint;
}
