/** The driver of Caddy's admin API against the real Caddy, whatever it may be told and whatever it may answer. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, describe as suite, it } from "node:test";
import { describe, reload, validate } from "../../../agent-client/reload/drivers.ts";
import type { CaddyStrategy } from "../../../agent-client/reload/strategy.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { startCaddy, type CaddyOptions } from "../../support/caddy.ts";
import { getOnce } from "../../support/https-client.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeTestCa, type TestLeaf } from "../../support/test-ca.ts";

suite("Caddy by its admin API", { skip: needs("caddy", "openssl") }, () => {
  const directory = temporaryDirectory("caddy");
  const { root, intermediate } = makeTestCa(directory);
  const stops: (() => unknown)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  const start = async (name: string, options: Partial<CaddyOptions> = {}) => {
    const dir = join(directory, name);
    mkdirSync(dir);
    const [certificate, key] = [join(dir, "fullchain.pem"), join(dir, "key.pem")];
    const put = (leaf: TestLeaf, keyOf = leaf): string => {
      writeFileSync(certificate, certificatePem(leaf.certificate, intermediate.certificate));
      writeFileSync(key, keyPem(keyOf.key), { mode: 0o600 });
      return fingerprint(leaf.certificate);
    };
    const first = put(intermediate.issue());
    const caddy = await startCaddy({ dir, certificate, key, ...options });
    stops.push(caddy.stop);
    const strategy: CaddyStrategy = { kind: "caddy", admin: caddy.admin, config: null, timeoutMs: 5000 };
    const visit = async (): Promise<string> => (await getOnce(caddy.port, root.certificate)).fingerprint;
    return { caddy, put, first, strategy, visit };
  };

  it("loads a new leaf with the running configuration, at a Unix socket, at a port, and at one that wants an Origin", async () => {
    const port = { admin: "port" } as const;
    for (const [at, options] of [{}, port, { ...port, enforceOrigin: true }].entries()) {
      const { put, first, strategy, visit } = await start(`running-${at}`, options);
      assert.deepEqual(await validate(strategy), []);
      assert.equal(await visit(), first);
      const next = put(intermediate.issue());
      assert.deepEqual(await reload(strategy), { ok: true, detail: "Caddy loaded the running configuration anew" });
      assert.equal(await visit(), next);
      assert.equal((await reload(strategy)).ok, true, "and once more");
      assert.ok(describe(strategy).includes(strategy.admin));
    }
  });

  it("loads a new leaf with the Caddyfile, and with a configuration in JSON", async () => {
    const { caddy, put, strategy, visit } = await start("files", { admin: "port" });
    const json = caddy.write("config.json", () => "");
    writeFileSync(json, await (await fetch(`http://${caddy.admin}/config/`)).text());
    for (const config of [caddy.caddyfile, json]) {
      assert.deepEqual(await validate({ ...strategy, config }), []);
      const next = put(intermediate.issue());
      assert.deepEqual(await reload({ ...strategy, config }), { ok: true, detail: `Caddy loaded ${config} anew` });
      assert.equal(await visit(), next);
    }
  });

  it("hears that a bad pair is refused, also behind the 200 that a warning has brought about, and the old leaf stays", async () => {
    const { caddy, put, first, strategy, visit } = await start("bad");
    put(intermediate.issue(), intermediate.issue());
    const unformatted = caddy.write("Unformatted", (text) => text.replaceAll("\t", "  "));
    for (const config of [null, caddy.caddyfile, unformatted]) {
      const { ok, detail } = await reload({ ...strategy, config });
      assert.equal(ok, false, String(config));
      assert.match(detail, /^Caddy refuses to load it and goes on with what it has: .*private key does not match/);
      assert.doesNotMatch(detail, /\n/);
    }
    assert.equal(await visit(), first);
  });

  it("says what is wrong with a configuration file before it is loaded", async () => {
    const { caddy, strategy } = await start("wrong");
    const cases: [string, RegExp][] = [
      [caddy.write("Syntax", (text) => `${text}\n}`), /does not understand .*Syntax: .*adapting config/],
      [
        caddy.write("NoAdmin", (text) => text.replace(/\tadmin .*\n/, "")),
        /would move Caddy's admin API from unix\/.* to localhost:2019, .*write `admin unix/,
      ],
      [caddy.write("Off", (text) => text.replace(/admin .*/, "admin off")), /to nowhere/],
      [caddy.write("broken.json", () => "{"), /broken\.json is not JSON/],
      [join(directory, "nothing"), /nothing is not there: correct `config`, or leave it out/],
      [directory, /is not a regular file/],
    ];
    for (const [config, says] of cases) {
      const problems = await validate({ ...strategy, config });
      assert.equal(problems.length, 1, config);
      assert.match(String(problems), says);
    }
    const port = await start("same-host", { admin: "port" });
    const localhost = port.caddy.write("Localhost", (text) => text.replace("admin 127.0.0.1:", "admin localhost:"));
    assert.deepEqual(await validate({ ...port.strategy, config: localhost }), [], "the same place by another name");
    assert.match((await reload({ ...strategy, config: join(directory, "nothing") })).detail, /nothing is not there/);
    assert.match(
      (await reload({ ...strategy, config: join(caddy.caddyfile, "..", "Syntax") })).detail,
      /refuses to load it .*adapting config/,
    );
  });

  it("does not undo what somebody else changes between its two requests", async () => {
    const { caddy, put, strategy, visit } = await start("race", { admin: "port" });
    const next = put(intermediate.issue());
    const [host, port] = caddy.admin.split(":");
    let asked = 0;
    // Passes everything on to Caddy; before the first POST somebody has their way.
    const between = createServer(async (from, to) => {
      if (from.method === "POST" && ++asked === 1) await change(caddy.admin);
      const headers = { ...from.headers, host: caddy.admin };
      const on = request({ host, port, method: from.method, path: from.url, headers }, (answer) => {
        to.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.on("data", (chunk) => to.write(chunk));
        answer.once("end", () => {
          to.addTrailers(answer.trailers);
          to.end();
        });
      });
      from.pipe(on);
    }).listen(0, "127.0.0.1");
    await once(between, "listening");
    stops.push(() => between.close());
    const result = await reload({ ...strategy, admin: `127.0.0.1:${(between.address() as AddressInfo).port}` });
    assert.equal(result.ok, true, result.detail);
    assert.equal(asked, 2);
    assert.equal(await visit(), next);
    assert.match(await (await fetch(`http://${caddy.admin}/config/`)).text(), /"body":"changed"/);
  });

  it("says who answers, when it is not Caddy or nobody", async () => {
    const answers = ["<html>", "", "null\n"];
    const somebody = createServer((_from, to) => {
      const answer = answers[0];
      if (answer === "") return;
      to.writeHead(answer === "<html>" ? 404 : 200).end(answer);
    }).listen(0, "127.0.0.1");
    await once(somebody, "listening");
    stops.push(() => (somebody.closeAllConnections(), somebody.close()));
    const admin = `127.0.0.1:${(somebody.address() as AddressInfo).port}`;
    const strategy: CaddyStrategy = { kind: "caddy", admin, config: null, timeoutMs: 300 };
    assert.match((await reload(strategy)).detail, /does not tell its configuration: status 404/);
    assert.match(String(await validate(strategy)), /404/);
    answers.shift();
    assert.match((await reload(strategy)).detail, /took longer than 0\.3 s/);
    assert.match((await reload(strategy, { signal: AbortSignal.abort() })).detail, /the agent is stopping/);
    answers.shift();
    assert.match((await reload(strategy)).detail, /runs without a configuration/);
    for (const nobody of ["127.0.0.1:1", join(directory, "none.sock")]) {
      const { ok, detail } = await reload({ ...strategy, admin: nobody });
      assert.deepEqual(
        [ok, detail],
        [false, `nothing answers at ${nobody}: is Caddy running, and does its \`admin\` option say so?`],
      );
    }
  });
});

/** As an operator would, with a PATCH of one value. */
async function change(admin: string): Promise<void> {
  const text = await (await fetch(`http://${admin}/config/`)).text();
  const body = text.replace('"body":"first"', '"body":"changed"');
  assert.notEqual(body, text);
  const headers = { "Content-Type": "application/json" };
  assert.equal((await fetch(`http://${admin}/load`, { method: "POST", headers, body })).status, 200);
}
