/** What docker-compose.yml promises, held against the files it mounts. */
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { parseConfig as parseAgentConfig } from "../../../agent-client/config/config.ts";
import { configKeys } from "../../../server/config.ts";

const root = join(import.meta.dirname, "../../..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

interface Service {
  readonly user?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly volumes?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly pid?: string;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly networks?: { readonly default: { readonly aliases: readonly string[] } };
}

const compose = parse(read("docker-compose.yml"), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};
const services = Object.entries(compose.services);

test("every container runs without root, without capabilities, on a read-only file system", () => {
  assert.deepEqual(Object.keys(compose.services).toSorted(), [
    "agent",
    "alertmanager",
    "grafana",
    "nginx",
    "prometheus",
    "service",
  ]);
  for (const [name, service] of services) {
    assert.match(service.user ?? "", /^[1-9]\d*:[1-9]\d*$/, name);
    assert.equal(service.read_only, true, name);
    assert.deepEqual(service.cap_drop, ["ALL"], name);
    assert.deepEqual(service.security_opt, ["no-new-privileges:true"], name);
    assert.ok((service.healthcheck?.test.length ?? 0) > 1, `${name} has no health check`);
    assert.doesNotMatch(JSON.stringify(service.environment ?? {}), /PASSWORD|SECRET|TOKEN/i, name);
    for (const port of service.ports ?? []) assert.match(port, /^\$\{[A-Z_]+:-127\.0\.0\.1\}:/, name);
  }
});

test("whole directories are mounted, never single files, and every named volume is declared", () => {
  for (const [name, { volumes = [] }] of services) {
    for (const volume of volumes) {
      const [source = ""] = volume.split(":");
      if (source.startsWith("./")) assert.ok(statSync(join(root, source)).isDirectory(), `${name}: ${volume}`);
      else assert.ok(Object.hasOwn(compose.volumes, source), `${name}: ${volume}`);
    }
  }
});

test("only the agent writes the gateway's files, and it has nginx's user and process namespace", () => {
  const { agent, nginx } = compose.services;
  assert.ok(nginx?.volumes?.includes("gateway-tls:/tls:ro"));
  assert.ok(agent?.volumes?.includes("gateway-tls:/tls"));
  assert.equal(agent?.user, nginx?.user);
  assert.equal(agent?.pid, "service:nginx");
});

test("the service's environment names settings that exist", () => {
  const known = configKeys().map(({ variable }) => variable);
  for (const variable of Object.keys(compose.services["service"]?.environment ?? {}))
    assert.ok(known.includes(variable));
});

test("the agent accepts its agent.yml, and it, nginx.conf and the compose file agree on names and paths", () => {
  const config = parseAgentConfig(read("deploy/docker/agent/agent.yml"), "agent.yml");
  const alias = compose.services["service"]?.networks?.default.aliases[0] ?? "";
  assert.equal(new URL(config.server).hostname, alias);
  assert.equal(new URL(config.enrollment).hostname, alias);
  const [certificate] = config.certificates;
  assert.ok(certificate !== undefined);
  const nginx = read("deploy/docker/nginx/nginx.conf");
  const inForce = `${certificate.target.directory}/current`;
  const used = [...nginx.matchAll(/^\s+ssl_(?:certificate|certificate_key|client_certificate|crl) (\S+);/gm)].map(
    ([, path = ""]) => path,
  );
  assert.deepEqual(used.toSorted(), certificate.target.files.map((file) => `${inForce}/${file}`).toSorted());
  assert.ok(read("deploy/docker/nginx/start.sh").includes(`${inForce}/fullchain.pem`));
  assert.ok(certificate.reload.kind === "signal" && nginx.includes(`pid ${certificate.reload.pidFile};`));
  for (const { connect, serverName } of certificate.probes) {
    assert.equal(connect, "nginx:9443");
    assert.ok(nginx.includes(`server_name ${serverName};`));
  }
});

test("images are built without running scripts of dependencies, from a base that can carry a digest", () => {
  for (const [name, { build, image = "" }] of services) {
    if (build === undefined) {
      // Somebody else's: a version, and a variable to pin its digest.
      assert.match(image, /^\$\{[A-Z]+_IMAGE:-docker\.io\/[a-z/]+:v?\d+\.\d+\.\d+\}$/, name);
      continue;
    }
    const dockerfile = read(join(build.context, build.dockerfile));
    assert.match(dockerfile, /^ARG (NODE|NGINX)_IMAGE=docker\.io\/library\/\S+$/m, name);
    assert.match(dockerfile, /^USER [1-9]\d*:[1-9]\d*$/m, name);
    if (dockerfile.includes("npm"))
      assert.match(dockerfile, /^RUN npm ci --ignore-scripts --omit=dev --workspace \S+$/m, name);
  }
});

test("Prometheus scrapes what the service and the agent listen on, and every file that is mounted for it is there", () => {
  const { scrape_configs: jobs, rule_files: rules } = parse(read("deploy/docker/prometheus/prometheus.yml")) as {
    scrape_configs: readonly { job_name: string; static_configs: readonly { targets: readonly string[] }[] }[];
    rule_files: readonly string[];
  };
  const targets = new Map(jobs.map(({ job_name: job, static_configs: [first] }) => [job, first?.targets]));
  const opsPort = compose.services["service"]?.environment?.["NEWLEAF_LISTEN_OPS"]?.split(":")[1];
  const { metrics } = parseAgentConfig(read("deploy/docker/agent/agent.yml"), "agent.yml");
  assert.deepEqual(targets.get("newleaf"), [`service:${opsPort}`]);
  assert.deepEqual(targets.get("newleaf-agent"), [`agent:${metrics?.port}`]);
  for (const file of rules) {
    const host = file.replace("/etc/prometheus/rules/", "deploy/prometheus/");
    assert.ok(statSync(join(root, host)).isFile(), file);
  }
});
