import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { isAppError } from "../../support/errors.ts";
import { configKeys, loadConfig, parseConfig, resolveDataDir, type ServerConfig } from "../../../server/config.ts";
import { configTemplate } from "../../../server/config-template.ts";

const directory = mkdtempSync(join(tmpdir(), "newleaf-config-"));
after(() => rmSync(directory, { recursive: true }));

function parse(text: string, env: Record<string, string> = {}): ServerConfig {
  return parseConfig({ dataDir: directory, text, env });
}

function refusal(text: string, env: Record<string, string> = {}): string {
  try {
    parse(text, env);
  } catch (error) {
    assert(isAppError(error, "request-invalid"), String(error));
    return error.message;
  }
  return assert.fail("it was accepted");
}

suite("configuration", () => {
  test("defaults are those of the contract", () => {
    const config = parse("");
    assert.deepEqual(config.listen, {
      agents: { host: "127.0.0.1", port: 8443 },
      enrollment: { host: "127.0.0.1", port: 8444 },
      admin: { host: "127.0.0.1", port: 8445 },
      public: { host: "127.0.0.1", port: 8080 },
      ops: { host: "127.0.0.1", port: 9464 },
    });
    assert.equal(config.tls.minVersion, "TLSv1.3");
    assert.equal(config.profiles.gateway.validity, 30 * 86_400_000);
    assert.equal(config.profiles.operator.validity, 90 * 86_400_000);
    assert.equal(config.profiles.agent.backdate, 5 * 60_000);
    assert.deepEqual(config.renewal, { at: 0.6667, spread: 0.1 });
    assert.deepEqual(config.lineage, { overlap: 86_400_000 });
    assert.deepEqual(config.crl, { lifetime: 14 * 86_400_000, interval: 3_600_000 });
    assert.equal(config.metrics.perIdentityMax, 1000);
    assert.equal(config.changes.maxHeld, 2000);
    assert.equal(config.publicUrl, "http://localhost:8080");
  });

  test("the template parses back to the defaults, every key of it written out", () => {
    const values = {
      caName: 'Claw "Lab": #1',
      hosts: ["ca.claw.internal", "10.0.1.2", "::1"],
      publicUrl: "http://ca.claw.internal:8080",
    };
    const template = configTemplate(values);
    assert.deepEqual(parse(template), { ...parse(""), ...values });
    for (const { key } of configKeys()) {
      const last = key.split(".").at(-1) ?? "";
      assert.match(template, new RegExp(`^ *${last}:`, "m"), `${key} is missing in the template`);
    }
  });

  test("the result is frozen all the way down", () => {
    const config = parse("");
    assert.throws(() => Object.assign(config.listen.agents, { port: 1 }), TypeError);
    assert.throws(() => (config.profiles.agent.keys as string[]).push("rsa-1024"), TypeError);
  });

  test("an unknown key is named with the nearest known one, at every depth", () => {
    assert.match(refusal("listn: {}"), /listn is not a known key; did you mean listen\?/);
    assert.match(
      refusal("listen: {agnets: '127.0.0.1:1'}"),
      /listen\.agnets is not a known key; did you mean listen\.agents\?/,
    );
    assert.match(refusal("profiles: {gateway: {keyreuse: true}}"), /did you mean profiles\.gateway\.keyReuse\?/);
  });

  test("every fault is told at once", () => {
    const message = refusal("crl: {lifetime: soon}\nmetrics: {perIdentityMax: -1}\nhosts: [UPPER]\nzzz: 1");
    for (const key of ["crl.lifetime", "metrics.perIdentityMax", "hosts", "zzz"])
      assert.ok(message.includes(key), message);
  });

  test("options of later versions are unknown, not ignored", () => {
    for (const key of ["pkcs11", "est", "approvals"])
      assert.match(refusal(`${key}: 1`), new RegExp(`${key} is not a known key`));
  });

  test("an empty section keeps its defaults; broken YAML, a list and a key written twice are refused", () => {
    assert.deepEqual(parse("listen:\nprofiles:\n  agent:\n"), parse(""));
    assert.match(refusal("listen: ["), /is not YAML/);
    assert.match(refusal("- a"), /must be a mapping/);
    assert.match(refusal("caName: a\ncaName: b"), /is not YAML/);
  });

  test("the environment overrides every key that there is", () => {
    const examples: Record<string, string> = {
      caName: "7",
      hosts: "a.internal, 10.1.1.1",
      publicUrl: "http://a.internal/",
      "tls.minVersion": "1.2",
      "renewal.at": "0.5",
      "renewal.spread": "0.2",
      "metrics.perIdentityMax": "5",
      "changes.maxHeld": "6",
      "log.level": "debug",
      "profiles.agent.approvals": "2",
      "profiles.gateway.approvals": "2",
      "profiles.operator.approvals": "2",
      journal: "/mnt/journal",
      "backup.schedule": "0 4 * * 1",
      "backup.directory": "/mnt/backups",
      "backup.keep": "3",
      "retention.expired": "30d",
      "backup.recipients": "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
      "audit.checkpoints.file": "/mnt/checkpoints",
      "audit.checkpoints.syslog": "udp://127.0.0.1:514",
    };
    const env: Record<string, string> = {};
    for (const { key, variable } of configKeys()) {
      env[variable] =
        examples[key] ??
        (key.startsWith("listen.")
          ? "[::1]:0"
          : key.endsWith("keyReuse")
            ? "true"
            : key.endsWith("keys")
              ? "ed25519,rsa-4096"
              : key === "crl.interval"
                ? "11m"
                : "11h");
    }
    const config = parse("listen: {agents: '127.0.0.1:1'}", env);
    assert.equal(config.caName, "7");
    assert.deepEqual(config.hosts, ["a.internal", "10.1.1.1"]);
    assert.equal(config.publicUrl, "http://a.internal");
    assert.deepEqual(config.listen.agents, { host: "::1", port: 0 });
    assert.deepEqual(config.profiles.gateway.keys, ["ed25519", "rsa-4096"]);
    assert.equal(config.profiles.gateway.keyReuse, true);
    assert.equal(config.profiles.operator.validity, 11 * 3_600_000);
    assert.deepEqual(config.renewal, { at: 0.5, spread: 0.2 });
    assert.equal(config.metrics.perIdentityMax, 5);
    assert.equal(config.tls.minVersion, "TLSv1.2");
    assert.equal(config.log.level, "debug");
  });

  test("the names of variables are those of the contract", () => {
    const variables = configKeys().map(({ variable }) => variable);
    for (const name of [
      "NEWLEAF_LISTEN_AGENTS",
      "NEWLEAF_METRICS_PER_IDENTITY_MAX",
      "NEWLEAF_PROFILES_GATEWAY_VALIDITY",
    ]) {
      assert.ok(variables.includes(name), name);
    }
  });

  test("a value of another type is told what it has to be, not what it is to the parser", () => {
    assert.match(refusal("crl: {interval: 30}"), /crl\.interval: must be a duration, .*30d/);
    assert.match(
      refusal("listen: {agents: null}"),
      /listen\.agents: must be host:port, .* only public and ops can be off/,
    );
  });

  test("null turns off the listeners that the service can do without, and no other", () => {
    assert.equal(parse("", { NEWLEAF_LISTEN_PUBLIC: "null" }).listen.public, null);
    assert.equal(parse("listen: {ops: null}").listen.ops, null);
    assert.match(refusal("", { NEWLEAF_LISTEN_AGENTS: "null" }), /NEWLEAF_LISTEN_AGENTS \(listen\.agents\)/);
    assert.match(refusal("listen: {admin: null}"), /listen\.admin/);
  });

  test("an unknown variable is refused; those of the programs, of Kubernetes and empty ones are not", () => {
    assert.match(
      refusal("", { NEWLEAF_LISTEN_AGENT: "127.0.0.1:1" }),
      /NEWLEAF_LISTEN_AGENT is not a known setting; did you mean NEWLEAF_LISTEN_AGENTS\?/,
    );
    const harmless = {
      NEWLEAF_DATA: "/x",
      NEWLEAF_TOKEN: "t",
      NEWLEAF_NODE: "node",
      NEWLEAF_SERVICE_HOST: "10.0.0.1",
      NEWLEAF_PORT: "tcp://10.0.0.1:8443",
      NEWLEAF_PORT_8443_TCP_ADDR: "10.0.0.1",
      NEWLEAF_LISTEN_OPS: "",
    };
    assert.deepEqual(parse("", harmless), parse(""));
  });

  test("what cannot work together is refused", () => {
    assert.match(refusal("renewal: {at: 0.9, spread: 0.1}"), /renewal\.at and renewal\.spread/);
    assert.match(refusal("crl: {lifetime: 1h, interval: 1h}"), /crl\.interval/);
    assert.match(refusal("publicUrl: https://ca.internal"), /publicUrl.*RFC 5280/);
    assert.match(refusal("listen: {agents: 8443}"), /listen\.agents/);
    assert.match(refusal("listen: {agents: '127.0.0.1:70000'}"), /listen\.agents/);
    assert.match(refusal("retention: {expired: 1s}"), /retention\.expired: must be 1d or longer/);
    assert.match(refusal("backup: {keep: 0}"), /backup\.keep: must be a number of backups/);
    assert.match(refusal("profiles: {agent: {keys: [rsa-1024]}}"), /profiles\.agent\.keys/);
  });

  test("a directory without newleaf.yml says how to make one", () => {
    assert.throws(
      () => loadConfig({ dataDir: join(directory, "none"), env: {} }),
      (error) => isAppError(error, "not-found") && /newleaf init --data/.test(error.message),
    );
    writeFileSync(join(directory, "newleaf.yml"), "caName: From a file\n");
    assert.equal(loadConfig({ dataDir: directory, env: {} }).caName, "From a file");
  });

  test("the data directory is the flag, else NEWLEAF_DATA, else ./newleaf-data", () => {
    assert.equal(resolveDataDir("/a", { NEWLEAF_DATA: "/b" }), "/a");
    assert.equal(resolveDataDir(undefined, { NEWLEAF_DATA: "/b" }), "/b");
    assert.match(resolveDataDir(undefined, {}), /newleaf-data$|^\/var\/lib\/newleaf$/);
  });
});
