import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import type { Bundle, ChangesAnswer } from "@newleaf/shared/api";
import { readCrl } from "@newleaf/shared/crl";
import { call, csrFor, enrolled, newKey, renew, settled, use, type Host } from "../support/agent-client.ts";
import { needs } from "../support/programs.ts";
import { startService, type TestService } from "../support/service.ts";

const run = promisify(execFile);
let service: TestService;

async function bundle(): Promise<Bundle> {
  return (await (await fetch(`${service.urls.public}/v1/bundle`)).json()) as Bundle;
}

/** The CRL of the issuing CA. */
async function issuerCrl(): Promise<{ der: Buffer; response: Response }> {
  const { crls, issuers } = await bundle();
  const url = crls.find(({ issuer }) => issuer === issuers[0]?.id)?.url ?? "";
  const response = await fetch(service.urls.public + new URL(url).pathname);
  return { der: Buffer.from(await response.arrayBuffer()), response };
}

async function entryOf(serial: string): Promise<{ reason: string | null } | undefined> {
  return readCrl((await issuerCrl()).der).revoked.find((entry) => entry.serial === serial);
}

function revoke(
  body: Record<string, unknown>,
): Promise<{ revoked: { serial: string; state: string }[]; blockedKeys: string[] }> {
  return service.admin("POST", "/v1/revocations", body);
}

/** openssl's verdict on a leaf, with the CRLs of root and issuer. */
async function verify(host: Host, purpose: string): Promise<string> {
  const { roots, issuers, crls } = await bundle();
  const file = (name: string): string => join(service.dir, name);
  await writeFile(file("ca.pem"), roots.join(""));
  await writeFile(file("int.pem"), issuers.map(({ certificate }) => certificate).join(""));
  await writeFile(file("leaf.pem"), host.answer.certificate);
  const pems: string[] = [];
  for (const { url } of crls) {
    const der = Buffer.from(await (await fetch(service.urls.public + new URL(url).pathname)).arrayBuffer());
    pems.push(
      `-----BEGIN X509 CRL-----\n${der.toString("base64").replaceAll(/(.{64})/g, "$1\n")}\n-----END X509 CRL-----\n`,
    );
  }
  await writeFile(file("crls.pem"), pems.join(""));
  const args = [
    "verify",
    "-x509_strict",
    "-crl_check_all",
    "-purpose",
    purpose,
    "-CAfile",
    file("ca.pem"),
    "-untrusted",
    file("int.pem"),
    "-CRLfile",
    file("crls.pem"),
    file("leaf.pem"),
  ];
  const { stdout, stderr } = await run("openssl", args).catch((error: { stdout: string; stderr: string }) => error);
  return stdout + stderr;
}

describe("revocation", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it(
    "openssl accepts what is issued and rejects what is revoked, with CRLs of the whole chain",
    { skip: needs("openssl") },
    async () => {
      await service.admin("POST", "/v1/identities", {
        id: "gw",
        profile: "gateway",
        names: { dns: ["gw.claw.internal"], ip: ["10.0.0.9"] },
      });
      const host = await enrolled(service, "gw");
      assert.match(await verify(host, "sslclient"), /OK/);
      assert.match(await verify(host, "sslserver"), /OK/);
      await revoke({ serial: host.answer.serial, reason: "keyCompromise" });
      assert.match(await verify(host, "sslclient"), /certificate revoked/);
    },
  );

  it("refuses from the very next request, on a connection that was open before too", async () => {
    const { Agent, request } = await import("node:https");
    const host = await settled(service, "next-request");
    const { credentials } = await import("../support/agent-client.ts");
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: service.roots, ...credentials(host) });
    const ask = (): Promise<{ status: number; closed: boolean }> =>
      new Promise((resolve, reject) => {
        request(`${service.urls.agents}/v1/renewal-window`, { agent }, (response) => {
          response
            .resume()
            .on("end", () =>
              resolve({ status: response.statusCode ?? 0, closed: response.headers.connection === "close" }),
            );
        })
          .on("error", reject)
          .end();
      });
    assert.deepEqual(await ask(), { status: 200, closed: false });
    await revoke({ serial: host.answer.serial, reason: "superseded" });
    assert.deepEqual(await ask(), { status: 403, closed: true });
    agent.destroy();
  });

  it("by identity and by key, dry run first; keyCompromise blocks the key", async () => {
    const first = await settled(service, "by-identity");
    const second = await renew(service, first);
    const dry = await revoke({ identity: "by-identity", reason: "privilegeWithdrawn", dryRun: true });
    assert.equal(dry.revoked.length, 2);
    await use(service, first);
    const done = await revoke({ identity: "by-identity", reason: "privilegeWithdrawn" });
    assert.deepEqual(
      done.revoked.map(({ serial }) => serial).toSorted(),
      [first.answer.serial, second.answer.serial].toSorted(),
    );
    await assert.rejects(use(service, first), { code: "certificate-revoked" });
    assert.equal((await entryOf(second.answer.serial))?.reason, "privilegeWithdrawn");

    const other = await settled(service, "by-key");
    const { key } = await service.admin<{ key: string }>("GET", `/v1/certificates/${other.answer.serial}`);
    const outcome = await revoke({ key, reason: "keyCompromise" });
    assert.deepEqual(outcome.blockedKeys, [key]);
    const token = await service.token("by-key");
    await assert.rejects(
      call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(other.key), token } }),
      { code: "key-blocked" },
    );
  });

  it("holds, lifts the hold, and lets only keyCompromise follow a final reason", async () => {
    const host = await settled(service, "held");
    const { serial } = host.answer;
    await service.admin("POST", `/v1/certificates/${serial}/revocation`, { reason: "certificateHold" });
    await assert.rejects(use(service, host), {
      code: "certificate-revoked",
      message: /on hold; .*newleaf cert release/,
    });
    assert.equal((await entryOf(serial))?.reason, "certificateHold");
    await service.admin("DELETE", `/v1/certificates/${serial}/revocation`);
    assert.equal((await use(service, host)).status, 200);
    assert.equal(await entryOf(serial), undefined);
    await revoke({ serial, reason: "superseded" });
    assert.deepEqual((await revoke({ serial, reason: "superseded" })).revoked[0]?.state, "unchanged");
    await assert.rejects(revoke({ serial, reason: "privilegeWithdrawn" }), { code: "already-revoked" });
    await assert.rejects(service.admin("DELETE", `/v1/certificates/${serial}/revocation`), { code: "conflict" });
    await revoke({ serial, reason: "keyCompromise" });
    assert.equal((await entryOf(serial))?.reason, "keyCompromise");
    await assert.rejects(revoke({ serial, reason: "removeFromCRL" }), { code: "reason-invalid" });
    await assert.rejects(revoke({ serial: "00ff", reason: "superseded" }), { code: "serial-unknown" });
  });

  it("raises the CRL number each time, and validators and age are true", async () => {
    const before = readCrl((await issuerCrl()).der);
    const host = await settled(service, "numbers");
    await revoke({ serial: host.answer.serial });
    const { der, response } = await issuerCrl();
    const crl = readCrl(der);
    assert.equal(crl.number, (before.number ?? 0) + 1);
    assert.equal((await entryOf(host.answer.serial))?.reason, null, "unspecified is left out");
    const maxAge = Number(/max-age=(\d+)/.exec(response.headers.get("cache-control") ?? "")?.[1]);
    assert.ok(maxAge * 1000 < crl.nextUpdate - Date.now());
    assert.equal(Date.parse(response.headers.get("last-modified") ?? ""), crl.thisUpdate);
    assert.equal(response.headers.get("content-type"), "application/pkix-crl");
    const again = await fetch(response.url, { headers: { "If-None-Match": response.headers.get("etag") ?? "" } });
    assert.equal(again.status, 304);
    assert.equal(Math.round((crl.nextUpdate - crl.thisUpdate) / 86_400_000), 14);
  });

  it("is republished hourly without being asked", async () => {
    const { publishDueCrls } = await import("../../server/authority/revocation/publish-crl.ts");
    const { systemCaller } = await import("../../server/authority/authority.ts");
    const before = readCrl((await issuerCrl()).der).number ?? 0;
    await publishDueCrls(service.server.authority, systemCaller("test"));
    assert.equal(readCrl((await issuerCrl()).der).number, before, "not before it is due");
    service.clock.advance(3_600_001);
    await publishDueCrls(service.server.authority, systemCaller("test"));
    assert.equal(readCrl((await issuerCrl()).der).number, before + 1);
    service.clock.advance(-3_600_001);
  });

  it("lists everybody again once a clock that was far ahead was put right", async () => {
    const { publishDueCrls } = await import("../../server/authority/revocation/publish-crl.ts");
    const { systemCaller } = await import("../../server/authority/authority.ts");
    const host = await settled(service, "clock-ahead");
    await revoke({ serial: host.answer.serial, reason: "keyCompromise" });
    // The CRL of then need not list what had ended by then.
    const ahead = 400 * 86_400_000;
    service.clock.advance(ahead);
    await publishDueCrls(service.server.authority, systemCaller("test"));
    await publishDueCrls(service.server.authority, systemCaller("test"));
    service.clock.advance(-ahead);
    const before = readCrl((await issuerCrl()).der).number;
    await publishDueCrls(service.server.authority, systemCaller("test"));
    assert.equal(readCrl((await issuerCrl()).der).number, before + 1, "a CRL of the future is replaced at once");
    assert.equal((await entryOf(host.answer.serial))?.reason, "keyCompromise");
  });

  it("wakes a held poll within a moment", async () => {
    const host = await settled(service, "waiting");
    const now = (await call(service, "agents", "GET", "/v1/changes", { host })).body as ChangesAnswer;
    const held = call(service, "agents", "GET", `/v1/changes?after=${now.cursor}&wait=30s`, { host });
    const begun = performance.now();
    const other = await settled(service, "waited-for");
    await revoke({ serial: other.answer.serial, reason: "superseded" });
    const changed = (await held).body as ChangesAnswer;
    assert.ok(performance.now() - begun < 5_000);
    const [issuer = ""] = Object.keys(changed.crls).filter((id) => changed.crls[id] !== now.crls[id]);
    assert.equal(changed.crls[issuer], (now.crls[issuer] ?? 0) + 1);
    const nothing = await call(service, "agents", "GET", `/v1/changes?after=${changed.cursor}&wait=1s`, { host });
    assert.equal(nothing.status, 204);
  });

  it("survives a restart: CRL numbers go on, the revoked stay refused", async () => {
    const host = await settled(service, "restart");
    await revoke({ serial: host.answer.serial, reason: "superseded" });
    const before = readCrl((await issuerCrl()).der).number ?? 0;
    await service.restart();
    assert.ok((readCrl((await issuerCrl()).der).number ?? 0) >= before);
    assert.ok(await entryOf(host.answer.serial));
    await assert.rejects(use(service, host), { code: "certificate-revoked" });
    await assert.rejects(renew(service, host), { code: "certificate-revoked" });
    assert.ok(await newKey());
  });
});
