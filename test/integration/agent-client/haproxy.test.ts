import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { factsOf, type FileName, type Material } from "../../../agent-client/install/material.ts";
import { renderFiles } from "../../../agent-client/install/render.ts";
import { stage } from "../../../agent-client/install/stage.ts";
import { rollback, switchTo } from "../../../agent-client/install/switch.ts";
import type { Target } from "../../../agent-client/install/target.ts";
import { probeServed } from "../../../agent-client/probe/probe.ts";
import { runCheck } from "../../../agent-client/reload/check.ts";
import { reload } from "../../../agent-client/reload/drivers.ts";
import type { ReloadStrategy } from "../../../agent-client/reload/strategy.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { startHaproxy } from "../../support/haproxy.ts";
import { getOnce } from "../../support/https-client.ts";
import { makeMaterial } from "../../support/material.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { makeTestCa } from "../../support/test-ca.ts";

const files: readonly FileName[] = ["combined.pem", "ca.pem", "crl.pem"];

describe("installing for HAProxy", { skip: needs("haproxy", "openssl") }, () => {
  const directory = temporaryDirectory("haproxy");
  const stops: (() => Promise<void>)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  it("serves combined.pem, reloads by USR2 to the master, and keeps clients by the CRL", async () => {
    const pki = makeTestCa(directory);
    const home = join(directory, "tls");
    const target: Target = { directory: home, files, owner: null, group: null, mode: 0o600, links: {} };
    const put = async (material: Material): Promise<void> => {
      const facts = factsOf(material, { bundleVersion: 1, stagedAt: Date.now() });
      await switchTo(target, (await stage(target, renderFiles(material, files), facts)).version);
    };
    const first = makeMaterial(pki);
    await put(first);
    const haproxy = await startHaproxy({
      dir: join(directory, "haproxy"),
      combined: join(home, "current/combined.pem"),
      clientCa: join(home, "current/ca.pem"),
      crl: join(home, "current/crl.pem"),
    });
    stops.push(haproxy.stop);
    const strategy: ReloadStrategy = { kind: "signal", signal: "USR2", pidFile: haproxy.pidFile, process: "haproxy" };
    const check = ["haproxy", "-c", "-f", haproxy.config];
    const served = async (material: Material, previous: Material | null): Promise<string> => {
      const verdict = await probeServed(
        { connect: `127.0.0.1:${haproxy.port}`, serverName: "localhost" },
        {
          expected: fingerprint(material.leaf),
          previous: previous === null ? null : fingerprint(previous.leaf),
          roots: material.roots,
          timeoutMs: 8000,
        },
        { now: () => Date.now() },
      );
      return `${verdict.outcome} ${verdict.outcome === "served" ? "" : verdict.detail}`.trim();
    };
    assert.equal(await served(first, null), "served");

    const client = { leaf: pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] }), chain: [] };
    assert.equal((await getOnce(haproxy.port, pki.root.certificate, client)).status, 200);
    const crl = pki.intermediate.crl({ number: 2, revoked: [client.leaf.serial] });
    const next = { ...makeMaterial(pki), crls: [pki.root.crl(), crl] };
    await put(next);
    assert.equal((await runCheck(check)).ok, true);
    const told = await reload(strategy);
    assert.ok(told.ok, told.detail);
    assert.equal(await served(next, first), "served");
    await assert.rejects(getOnce(haproxy.port, pki.root.certificate, client));

    const broken = { ...makeMaterial(pki), key: first.key };
    await put(broken);
    assert.match((await runCheck(check)).detail, /inconsistencies between private key and certificate/);
    assert.notEqual(await rollback(target), null);
    assert.equal((await reload(strategy)).ok, true);
    assert.equal(await served(next, null), "served");
  });
});
