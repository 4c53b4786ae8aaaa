/** Canaries at real servers: nginx refuses in its HTTP answer, HAProxy by a TLS alert after the handshake. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { CanaryConfig, CanaryFiles } from "../../../agent-client/probe/canary.ts";
import { renderFiles } from "../../../agent-client/install/render.ts";
import {
  type Expectation,
  probeServed,
  type ProbeVerdict,
  type ProofTarget,
} from "../../../agent-client/probe/probe.ts";
import { fingerprint } from "../../../shared/fingerprint.ts";
import { startHaproxy } from "../../support/haproxy.ts";
import { makeMaterial } from "../../support/material.ts";
import { type NginxOptions, startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { certificatePem, crlPem, keyPem, makeTestCa, type TestLeaf } from "../../support/test-ca.ts";

const skip = needs("nginx", "haproxy", "openssl");
const day = 86_400_000;
const second = 1000;

describe("canaries at real servers", { skip }, () => {
  const directory = temporaryDirectory("canary");
  const pki = skip === false ? makeTestCa(directory) : null;
  const stops: (() => Promise<void>)[] = [];
  after(async () => {
    for (const stop of stops) await stop();
  });

  const at = (name: string): string => join(directory, name);
  let material: ReturnType<typeof makeMaterial>;
  let good: TestLeaf;
  let revoked: TestLeaf;
  let canary: CanaryConfig;
  let revokedFiles: CanaryFiles;

  before(() => {
    assert.ok(pki);
    const client = () => pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] });
    [good, revoked] = [client(), client()];
    material = makeMaterial(pki, { crl: { revoked: [revoked.serial] } });
    const expired = { thisUpdate: Date.now() - 3 * day, nextUpdate: Date.now() - day, revoked: [revoked.serial] };
    for (const [name, bytes] of renderFiles(material, [
      "combined.pem",
      "key.pem",
      "fullchain.pem",
      "ca.pem",
      "crl.pem",
    ]))
      writeFileSync(at(name), bytes, { mode: 0o600 });
    writeFileSync(at("expired-crl.pem"), crlPem(pki.root.crl(), pki.intermediate.crl(expired)));
    writeFileSync(at("empty-of-revoked.pem"), crlPem(pki.root.crl(), pki.intermediate.crl()));
    revokedFiles = { certificate: keep("revoked", revoked), key: at("revoked.key") };
    canary = { good: "own", revoked: revokedFiles, accept: [200] };
  });

  function keep(name: string, leaf: TestLeaf): string {
    assert.ok(pki);
    mkdirSync(directory, { recursive: true });
    writeFileSync(at(`${name}.key`), keyPem(leaf.key), { mode: 0o600 });
    writeFileSync(at(`${name}.crt`), certificatePem(leaf.certificate, pki.intermediate.certificate));
    return at(`${name}.crt`);
  }

  const http = { path: "/", host: null, status: [200] };
  const proofs = (): Pick<ProofTarget, "http" | "canary"> => ({ http, canary });
  const prove = (port: number, what: Pick<ProofTarget, "http" | "canary"> = proofs()): Promise<ProbeVerdict> => {
    const own = {
      cert: certificatePem(good.certificate, pki?.intermediate.certificate ?? Buffer.alloc(0)),
      key: keyPem(good.key),
    };
    const expectation: Expectation = {
      expected: fingerprint(material.leaf),
      previous: null,
      roots: material.roots,
      client: own,
      isRevoked: (serial) => serial === revoked.serial,
      timeoutMs: 5000,
      steady: { handshakes: 2, overMs: 10, everyMs: 10 },
    };
    const probe = { connect: `127.0.0.1:${port}`, serverName: "localhost", ...what };
    return probeServed(probe, expectation, { now: () => Date.now() });
  };

  let count = 0;
  const nginx = async (crl: string | null, more: Partial<NginxOptions> = {}): Promise<number> => {
    count += 1;
    const server = await startNginx({
      dir: at(`nginx-${count}`),
      certificate: at("fullchain.pem"),
      key: at("key.pem"),
      clientCa: at("ca.pem"),
      ...(crl === null ? {} : { crl: at(crl) }),
      ...more,
    });
    stops.push(server.stop);
    return server.port;
  };
  const haproxy = async (crl: string | null, onlyTls12 = false): Promise<number> => {
    count += 1;
    const server = await startHaproxy({
      dir: at(`haproxy-${count}`),
      combined: at("combined.pem"),
      onlyTls12,
      clientCa: at("ca.pem"),
      ...(crl === null ? {} : { crl: at(crl) }),
    });
    stops.push(server.stop);
    return server.port;
  };

  it("nginx that enforces: both are as they should be, and it is healthy", async () => {
    for (const protocols of [["TLSv1.2"], ["TLSv1.3"]] as const) {
      const verdict = await prove(await nginx("crl.pem", { protocols }));
      assert.equal(verdict.outcome, "served", verdict.detail);
      assert.match(verdict.detail, /healthy, clients enforced$/);
      assert.deepEqual(verdict.canary, { good: true, revoked: true, failure: null, warnings: [] });
    }
  });

  it("nginx without the CRL lets the revoked client in", async () => {
    const lenient = await nginx(null, { verifyClient: "optional_no_ca" });
    const ports = [await nginx(null), await nginx("empty-of-revoked.pem"), lenient];
    for (const verdict of await Promise.all(ports.map((port) => prove(port)))) {
      assert.equal(verdict.outcome, "canary-passed", verdict.detail);
      assert.match(verdict.detail, new RegExp(`lets a revoked client in \\(serial ${revoked.serial}\\): HTTP 200`));
      assert.deepEqual([verdict.canary?.good, verdict.canary?.revoked], [true, false]);
    }
  });

  it("nginx with an expired CRL turns the good client away, and says so in the title of its page", async () => {
    const verdict = await prove(await nginx("expired-crl.pem"));
    assert.equal(verdict.outcome, "canary-refused", verdict.detail);
    assert.match(
      verdict.detail,
      /turns a good client away \(the agent's own leaf\): HTTP 400 \(400 The SSL certificate error\)/,
    );
    assert.match(verdict.detail, /Has a CRL expired/);
    assert.equal(verdict.canary?.good, false);
    assert.equal(verdict.canary?.revoked, true);
  });

  it("HAProxy refuses by an alert, which in TLS 1.3 comes after the handshake; with HTTP and without", async () => {
    const ports = [await haproxy("crl.pem"), await haproxy("crl.pem", true)];
    const ways = [{ http, canary }, { canary }];
    const verdicts = await Promise.all(ports.flatMap((port) => ways.map((way) => prove(port, way))));
    for (const verdict of verdicts) {
      assert.equal(verdict.outcome, "served", verdict.detail);
      assert.deepEqual(verdict.canary, { good: true, revoked: true, failure: null, warnings: [] });
    }
  });

  it("HAProxy without the CRL, and HAProxy with an expired one", async () => {
    const lenient = await prove(await haproxy(null));
    assert.equal(lenient.outcome, "canary-passed", lenient.detail);
    const strict = await prove(await haproxy("expired-crl.pem"));
    assert.equal(strict.outcome, "canary-refused", strict.detail);
    assert.match(strict.detail, /alert/i);
  });

  it("a health check sees what is behind nginx, as a client that nginx lets in", async () => {
    const port = await nginx("crl.pem", { directives: ["location = /sick { return 503; }"] });
    const healthy = await prove(port, { http });
    assert.equal(healthy.outcome, "served", healthy.detail);
    const sick = await prove(port, { http: { path: "/sick", host: null, status: [200, 204] } });
    assert.equal(sick.outcome, "unhealthy");
    assert.match(
      sick.detail,
      /^unhealthy: GET \/sick of localhost at 127\.0\.0\.1:\d+: HTTP 503 \(503 Service Temporarily Unavailable\), not 200 or 204$/,
    );
    assert.equal(sick.fingerprint, fingerprint(material.leaf));
    const asked = await prove(port, { http: { path: "/sick", host: null, status: [200] }, canary });
    assert.equal(asked.outcome, "unhealthy", "a good client that gets in and finds an error was not turned away");
  });

  it("canaries that prove nothing are warnings with what to do, never failures", async () => {
    assert.ok(pki);
    const port = await nginx("crl.pem");
    const notAfter = Date.now() + 2 * second;
    const short = pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"], notAfter });
    const known = pki.intermediate.issue({ extendedKeyUsage: ["clientAuth"] });
    const cases: readonly [CanaryConfig, RegExp][] = [
      [
        { good: null, revoked: { certificate: keep("known", known), key: at("known.key") }, accept: [200] },
        new RegExp(
          `is not on the CRLs the server was given, so it proves nothing: newleaf cert revoke --serial ${known.serial}`,
        ),
      ],
      [
        { good: null, revoked: { certificate: at("nowhere.crt"), key: at("known.key") }, accept: [200] },
        /nowhere\.crt and .*known\.key cannot be used: ENOENT/,
      ],
      [
        { good: { certificate: at("known.crt"), key: at("revoked.key") }, revoked: null, accept: [200] },
        /known\.crt and .*revoked\.key are no pair/,
      ],
      [{ good: revokedFiles, revoked: null, accept: [200] }, /is revoked and proves nothing: enroll another/],
      [
        { good: { certificate: keep("short", short), key: at("short.key") }, revoked: null, accept: [200] },
        /short\.crt expired at .* and proves nothing: renew it/,
      ],
    ];
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, notAfter - Date.now()) + 50));
    for (const [config, says] of cases) {
      const verdict = await prove(port, { http, canary: config });
      assert.equal(verdict.outcome, "served", verdict.detail);
      assert.deepEqual([verdict.canary?.good, verdict.canary?.revoked], [null, null]);
      assert.match(verdict.canary?.warnings.join("\n") ?? "", says);
    }
  });
});
