import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { readInstalled } from "../../../agent-client/install/installed.ts";
import { ensureLinks } from "../../../agent-client/install/links.ts";
import { factsOf, type FileName, type Material } from "../../../agent-client/install/material.ts";
import { preflight } from "../../../agent-client/install/preflight.ts";
import { renderFiles } from "../../../agent-client/install/render.ts";
import { stage } from "../../../agent-client/install/stage.ts";
import { confirm, prune, quarantine, rollback, switchTo } from "../../../agent-client/install/switch.ts";
import type { Target } from "../../../agent-client/install/target.ts";
import { probeServed, type ProbeVerdict } from "../../../agent-client/probe/probe.ts";
import { runCheck } from "../../../agent-client/reload/check.ts";
import { reload, validate } from "../../../agent-client/reload/drivers.ts";
import type { ReloadStrategy } from "../../../agent-client/reload/strategy.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { until } from "../../support/agent.ts";
import { getOnce } from "../../support/https-client.ts";
import { makeMaterial } from "../../support/material.ts";
import { type Nginx, startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { makeTestCa } from "../../support/test-ca.ts";

const files: readonly FileName[] = ["key.pem", "cert.pem", "fullchain.pem", "ca.pem", "crl.pem"];

describe("installing for nginx", { skip: needs("nginx", "openssl") }, () => {
  const directory = temporaryDirectory("nginx");
  const pki = makeTestCa(directory);
  const clock = { now: () => Date.now() };
  const running: Nginx[] = [];
  after(async () => {
    await Promise.all(running.map((nginx) => nginx.stop()));
  });
  let count = 0;

  /** A target with a first set in it, and an nginx that serves it. */
  const setUp = async (first: Material, presents: "fullchain.pem" | "cert.pem" = "fullchain.pem") => {
    count += 1;
    const home = join(directory, `tls-${count}`);
    const target: Target = { directory: home, files, owner: null, group: null, mode: 0o600, links: {} };
    await switchTo(target, await put(target, first));
    const current = (file: FileName): string => join(home, "current", file);
    const nginx = await startNginx({
      dir: join(directory, `nginx-${count}`),
      certificate: current(presents),
      key: current("key.pem"),
      clientCa: current("ca.pem"),
      crl: current("crl.pem"),
    });
    running.push(nginx);
    const strategy: ReloadStrategy = { kind: "signal", signal: "HUP", pidFile: nginx.pidFile, process: "nginx" };
    const probe = (material: Material, previous: Material | null, timeoutMs = 5000): Promise<ProbeVerdict> =>
      probeServed(
        { connect: `127.0.0.1:${nginx.port}`, serverName: "localhost" },
        {
          expected: fingerprint(material.leaf),
          previous: previous === null ? null : fingerprint(previous.leaf),
          roots: material.roots,
          timeoutMs,
        },
        clock,
      );
    return { target, nginx, strategy, probe, check: ["nginx", "-t", "-q", "-c", nginx.config] };
  };
  const put = async (target: Target, material: Material): Promise<string> => {
    const facts = factsOf(material, { bundleVersion: 1, stagedAt: Date.now() });
    return (await stage(target, renderFiles(material, files), facts)).version;
  };
  const client = () => ({ leaf: pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] }), chain: [] });

  it("renews three times with new keys under a steady load of new connections, none of which fails", async () => {
    const first = makeMaterial(pki);
    const { target, nginx, strategy, probe, check } = await setUp(first);
    const who = client();
    const seen = new Set<string>();
    const failures: unknown[] = [];
    let requests = 0;
    let over = false;
    const load = async (): Promise<void> => {
      while (!over) {
        try {
          const answer = await getOnce(nginx.port, pki.root.certificate, who);
          assert.equal(answer.status, 200);
          seen.add(answer.fingerprint);
        } catch (error) {
          failures.push(error);
        }
        requests += 1;
      }
    };
    const loads = [load(), load()];

    assert.deepEqual(await validate(strategy), []);
    let previous = first;
    for (let round = 2; round <= 4; round += 1) {
      const crls = [pki.root.crl({ number: round }), pki.intermediate.crl({ number: round })];
      const next = { ...makeMaterial(pki), crls };
      preflight(next, { now: Date.now(), serverNames: ["localhost"], trustedRoots: [pki.root.certificate] });
      const version = await put(target, next);
      await switchTo(target, version);
      const checked = await runCheck(check);
      assert.ok(checked.ok, checked.detail);
      const told = await reload(strategy);
      assert.ok(told.ok, told.detail);
      const verdict = await probe(next, previous);
      assert.equal(verdict.outcome, "served", verdict.detail);
      await confirm(target, version);
      await prune(target);
      const installed = await readInstalled(target);
      assert.deepEqual([installed?.complete, installed?.confirmed, installed?.version], [true, true, version]);
      previous = next;
    }
    over = true;
    await Promise.all(loads);
    assert.deepEqual(failures, []);
    assert.ok(requests > 50, `${requests} requests`);
    assert.equal(seen.size, 4);
  });

  it("refuses a revoked client once the new CRL is served, and still takes the others", async () => {
    const first = makeMaterial(pki);
    const { target, nginx, strategy, probe } = await setUp(first);
    const [good, bad] = [client(), client()];
    const status = async (who?: ReturnType<typeof client>): Promise<number> =>
      (await getOnce(nginx.port, pki.root.certificate, who)).status;
    assert.deepEqual([await status(good), await status(bad), await status()], [200, 200, 400]);
    const crl = pki.intermediate.crl({ number: 2, revoked: [bad.leaf.serial] });
    const next = { ...first, crls: [pki.root.crl(), crl] };
    await switchTo(target, await put(target, next));
    assert.equal((await reload(strategy)).ok, true);
    assert.equal((await probe(next, first)).outcome, "served");
    assert.deepEqual([await status(good), await status(bad)], [200, 400]);
  });

  it("takes a set back that nginx would not start from, before nginx hears of it", async () => {
    const first = makeMaterial(pki);
    const { target, nginx, strategy, probe, check } = await setUp(first);
    // As if the preflight had overlooked it: leaf and key of two different sets.
    const broken = { ...makeMaterial(pki), key: makeMaterial(pki).key };
    const version = await put(target, broken);
    await switchTo(target, version);
    const checked = await runCheck(check);
    assert.equal(checked.ok, false);
    assert.match(checked.detail, /key values mismatch/);
    assert.notEqual(await rollback(target), null);
    await quarantine(target, version, checked.detail);
    assert.equal((await runCheck(check)).ok, true);
    assert.equal((await reload(strategy)).ok, true);
    assert.equal((await probe(first, null)).outcome, "served");
    await assert.rejects(switchTo(target, version), /quarantined/);
    assert.doesNotMatch(nginx.errorLog(), /\[emerg\]/);
  });

  it("notices that a signal was sent and not obeyed: nginx keeps the old leaf and says nothing", async () => {
    const first = makeMaterial(pki);
    const { target, strategy, probe, nginx } = await setUp(first);
    const broken = { ...makeMaterial(pki), key: makeMaterial(pki).key };
    await switchTo(target, await put(target, broken));
    assert.equal((await reload(strategy)).ok, true);
    const verdict = await probe(broken, first, 1000);
    assert.deepEqual([verdict.outcome, verdict.fingerprint], ["old", fingerprint(first.leaf)]);
    assert.match(nginx.errorLog(), /\[emerg\]/);
  });

  it("notices that nginx was not told at all", async () => {
    const first = makeMaterial(pki);
    const { target, probe } = await setUp(first);
    const next = makeMaterial(pki);
    await switchTo(target, await put(target, next));
    assert.equal((await reload({ kind: "watch" })).ok, true);
    assert.equal((await probe(next, first, 500)).outcome, "old");
  });

  it("notices a missing intermediate, which nginx itself accepts", async () => {
    const first = makeMaterial(pki);
    const { probe, check } = await setUp(first, "cert.pem");
    assert.equal((await runCheck(check)).ok, true);
    const verdict = await probe(first, null);
    assert.equal(verdict.outcome, "unverified");
    assert.match(verdict.detail, /fullchain\.pem, not cert\.pem/);
  });

  it("never signals nginx in another server's name, nor with a signal that would start a second one", async () => {
    const first = makeMaterial(pki);
    const { nginx, strategy, probe } = await setUp(first);
    await until("the worker is there", () => nginx.workers().length === 1);
    const [master, workers] = [nginx.pid(), nginx.workers()];
    assert.match((await reload({ ...strategy, process: "haproxy" })).detail, /not haproxy/);
    assert.match((await reload({ ...strategy, signal: "USR2" })).detail, /second nginx master/);
    assert.deepEqual([nginx.pid(), nginx.workers()], [master, workers]);
    assert.equal((await probe(first, null)).outcome, "served");
    await nginx.stop();
    const gone = await probe(first, null, 300);
    assert.deepEqual([gone.outcome, gone.reachable], ["broken", false]);
    assert.equal((await reload(strategy)).ok, false);
  });

  it("serves by way of fixed paths that are links", async () => {
    const first = makeMaterial(pki);
    const etc = join(directory, "etc");
    mkdirSync(etc);
    const [crt, key] = [join(etc, "server.crt"), join(etc, "server.key")];
    const links: Target["links"] = { [crt]: "fullchain.pem", [key]: "key.pem" };
    const home = join(directory, "linked");
    const target: Target = { directory: home, files, owner: null, group: null, mode: 0o600, links };
    await switchTo(target, await put(target, first));
    await ensureLinks(target, { adopt: false });
    const nginx = await startNginx({ dir: join(directory, "nginx-linked"), certificate: crt, key });
    running.push(nginx);
    const next = makeMaterial(pki);
    await switchTo(target, await put(target, next));
    nginx.reload();
    const verdict = await probeServed(
      { connect: `127.0.0.1:${nginx.port}`, serverName: "127.0.0.1" },
      { expected: fingerprint(next.leaf), previous: fingerprint(first.leaf), roots: next.roots },
      clock,
    );
    assert.equal(verdict.outcome, "served", verdict.detail);
  });

  it("shows why the root's CRL is demanded: without it nginx refuses every client", async () => {
    const whole = makeMaterial(pki);
    const { nginx } = await setUp({ ...whole, crls: whole.crls.slice(1) });
    assert.equal((await getOnce(nginx.port, pki.root.certificate, client())).status, 400);
  });
});
