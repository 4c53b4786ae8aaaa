/** The agent's canaries beside real nginx and a real service: an operator who loses ssl_crl is told, and so is Prometheus. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { copyFileSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readCrl } from "@newleaf/shared/crl";
import { pemDecode } from "@newleaf/shared/pem";
import type { AgentConfig } from "../../../agent-client/config/config.ts";
import type { AgentContext } from "../../../agent-client/context.ts";
import { metricsOf, renderMetrics } from "../../../agent-client/metrics.ts";
import { formatStatus, readStatus } from "../../../agent-client/status/status.ts";
import { nginxFiles, runInBackground, type TestHost, testHost, until } from "../../support/agent.ts";
import { addGateway, installFirst } from "../../support/first-install.ts";
import { credentials, settled } from "../../support/agent-client.ts";
import { expiredCrl } from "../../support/negative-story.ts";
import { type Nginx, startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";
import { startService, type TestService } from "../../support/service.ts";
import { visit } from "../../support/steady-load.ts";
import { crlPem } from "../../support/test-ca.ts";

const serverName = "gateway.claw.internal";

interface Gateway extends AsyncDisposable {
  readonly service: TestService;
  readonly host: TestHost;
  readonly nginx: Nginx;
  /** Writes agent.yml with more settings of the probe. */
  configure(probe: Readonly<Record<string, unknown>>, reload?: unknown): AgentConfig;
}

/** An enrolled host, and nginx that verifies clients. */
async function startGateway(): Promise<Gateway> {
  await using stack = new AsyncDisposableStack();
  const service = stack.use(await startService());
  const token = await addGateway(service, serverName);
  const host = testHost(service, join(service.dir, "host"));
  await installFirst(host, token, { files: nginxFiles });
  const at = (name: string): string => join(host.current, name);
  const nginx = await startNginx({
    dir: join(service.dir, "nginx"),
    certificate: at("fullchain.pem"),
    key: at("key.pem"),
    clientCa: at("ca.pem"),
    crl: at("crl.pem"),
  });
  stack.defer(() => nginx.stop());
  const opened = stack.move();
  return {
    service,
    host,
    nginx,
    configure: (probe, reload = { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" }) =>
      host.configure({
        files: nginxFiles,
        reload,
        probe: {
          connect: `127.0.0.1:${nginx.port}`,
          serverName,
          timeout: "5s",
          http: { path: "/", status: 200 },
          ...probe,
        },
      }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

test(
  "canaries find a proxy that no longer enforces, say so, and are content again when it does",
  { skip: needs("nginx"), timeout: 60_000 },
  async () => {
    await using gateway = await startGateway();
    const { service, host, nginx } = gateway;
    const canary = await settled(service, "canary-1");
    const files = { certificate: join(service.dir, "canary.crt"), key: join(service.dir, "canary.key") };
    const { cert, key } = credentials(canary);
    writeFileSync(files.certificate, cert);
    writeFileSync(files.key, key, { mode: 0o600 });
    const config = gateway.configure({ canary: { good: "own", revoked: files } });
    await using app = await host.open();
    await using running = runInBackground(app);
    const [agent] = app.agents;
    assert.ok(running && agent);
    await until("the good canary has passed", () => agent.view.canaries[0]?.good === true);
    assert.equal(agent.view.canaries[0]?.revoked, null, "not revoked yet, so it proves nothing");
    assert.match(host.lines.join(""), /warn canary-proves-nothing .*newleaf cert revoke --serial/);

    await service.admin("POST", "/v1/revocations", { serial: canary.answer.serial, reason: "keyCompromise" });
    await until("the revoked canary is kept out", () => agent.view.canaries[0]?.revoked === true);
    assert.equal(agent.journal.state.notServed, null, host.lines.join(""));
    assert.deepEqual(canaryMetrics(agent), ["good 1", "revoked 1"]);
    const [well] = (await readStatus(config, Date.now())).certificates;
    assert.deepEqual([well?.state, well?.canaries[0]?.good, well?.canaries[0]?.revoked], ["ok", true, true]);

    assert.deepEqual(well?.health, [{ address: `127.0.0.1:${nginx.port}`, problem: null }]);

    // An operator takes the CRL out of nginx's configuration.
    const good = readFileSync(nginx.config, "utf8");
    writeFileSync(nginx.config, good.replace(/ssl_crl .*\n/, ""));
    nginx.reload();
    lookNow(agent);
    await until("the alarm", () => agent.journal.state.notServed !== null);
    assert.match(alarmOf(agent), /lets a revoked client in/);
    assert.deepEqual(canaryMetrics(agent), ["good 1", "revoked 0"]);
    const status = await readStatus(config, Date.now());
    assert.equal(status.certificates[0]?.state, "not-served");
    assert.match(formatStatus(status), /canary +NOT ENFORCED: .*lets a revoked client in/);

    writeFileSync(nginx.config, good);
    nginx.reload();
    await until("all is well again", () => agent.journal.state.notServed === null, 30_000);
    assert.deepEqual(canaryMetrics(agent), ["good 1", "revoked 1"]);
  },
);

test(
  "CRLs with which the proxy turns good clients away are taken back, and the clients get in again",
  { skip: needs("nginx"), timeout: 60_000 },
  async () => {
    await using gateway = await startGateway();
    const { service, host, nginx } = gateway;
    const [stranger, visitor] = [await settled(service, "stranger-1"), await settled(service, "client-1")];
    const expired = expiredCrl({ service, stranger });
    const issuer = new X509Certificate(stranger.answer.chain).publicKey;
    const others = pemDecode(host.file("crl.pem"), "X509 CRL").filter((crl) => !readCrl(crl).verify(issuer));
    const expiredFile = join(service.dir, "expired.crl");
    writeFileSync(expiredFile, crlPem(...others, expired));
    // As if the preflight had overlooked it: nginx loads a CRL that ended a minute ago.
    const { script, spoilNext } = reloader(gateway, `s|ssl_crl .*|ssl_crl ${expiredFile};|`);
    gateway.configure({ canary: { good: "own" } }, { command: [script] });
    await using app = await host.open();
    await using running = runInBackground(app);
    const [agent] = app.agents;
    assert.ok(running && agent);
    await until("the good canary has passed", () => agent.view.canaries[0]?.good === true);
    await until("the first set is in force", () => agent.journal.state.served !== null);
    const before = realpathSync(host.current);

    spoilNext();
    await service.admin("POST", "/v1/revocations", { serial: stranger.answer.serial, reason: "superseded" });
    await until("the set is taken back", () => agent.journal.state.quarantine !== null);
    assert.equal(agent.journal.state.quarantine?.row, "clients-refused", host.lines.join(""));
    await until("the way back is taken", () => realpathSync(host.current) === before);
    await until("the good canary passes again", () => agent.view.canaries[0]?.good === true);
    assert.equal((await visit(nginx.port, serverName, { ...credentials(visitor), ca: service.roots })).status, 200);
    assert.match(
      agent.journal.state.quarantine?.detail ?? "",
      /turns a good client away .*400 The SSL certificate error/,
    );
    assert.equal(agent.view.attempts["rolled-back"], 1);
  },
);

test(
  "a new set with which the server answers nothing but errors is taken back",
  { skip: needs("nginx"), timeout: 60_000 },
  async () => {
    await using gateway = await startGateway();
    const { host, nginx } = gateway;
    const { script, spoilNext } = reloader(gateway, "s|return 200 .*|return 503;|");
    gateway.configure({}, { command: [script] });
    await using app = await host.open();
    await using running = runInBackground(app);
    const [agent] = app.agents;
    assert.ok(running && agent);
    await until("the first look", () => agent.view.lookedAt !== null);
    const before = host.installed();

    spoilNext();
    renewNow(agent);
    await until("the set is taken back", () => agent.journal.state.quarantine !== null);
    assert.equal(agent.journal.state.quarantine?.row, "unhealthy", host.lines.join(""));
    assert.match(agent.journal.state.quarantine?.detail ?? "", /unhealthy: GET \/ of .* HTTP 503/);
    await until("the way back is taken", () => host.installed() === before && agent.journal.state.told !== null);
    assert.equal(agent.journal.state.notServed, null, "healthy again");
    assert.match(host.lines.join(""), /warn rolled-back .*why=unhealthy/);
    assert.equal(nginx.check().output, "");
  },
);

/** A reload command that puts nginx's configuration right, and once spoils it with this line of sed. */
function reloader({ service, nginx }: Gateway, sed: string): { script: string; spoilNext(): void } {
  const script = join(service.dir, "reload.sh");
  const spoil = join(service.dir, "spoil");
  const good = join(service.dir, "good.conf");
  copyFileSync(nginx.config, good);
  const lines = [
    "#!/bin/sh",
    `cp ${good} ${nginx.config}`,
    `if rm ${spoil}; then sed -i '${sed}' ${nginx.config}; fi`,
    `kill -HUP "$(cat ${nginx.pidFile})"`,
  ];
  writeFileSync(script, `${lines.join("\n")}\n`, { mode: 0o700 });
  return { script, spoilNext: () => writeFileSync(spoil, "") };
}

function renewNow({ view, wake }: AgentContext): void {
  view.forced = true;
  wake.now();
}

function alarmOf({ journal }: AgentContext): string {
  return journal.state.notServed?.detail ?? "";
}

function lookNow({ view, wake }: AgentContext): void {
  view.lookedAt = null;
  view.canariesAt = null;
  wake.now();
}

function canaryMetrics({ config, journal, trust, view }: AgentContext): readonly string[] {
  const text = renderMetrics([metricsOf(config, journal.state, trust.trust, view)]);
  return [...text.matchAll(/^newleaf_agent_canary\{certificate="gateway",client="(\w+)"\} ([01])$/gm)].map(
    ([, client, value]) => `${client} ${value}`,
  );
}
