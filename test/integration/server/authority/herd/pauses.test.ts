/** Hopeless clients: paused after fifty refusals, told why, and let in the moment that they could succeed. */
import assert from "node:assert/strict";
import type { KeyObject } from "node:crypto";
import { after, before, describe, it } from "node:test";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { AppError } from "@newleaf/shared/problems";
import { refusalsUntilPaused } from "../../../../../server/authority/herd/pauses.ts";
import { call, csrFor, enrolled, type Host, newKey, renew, settled, use } from "../../../../support/agent-client.ts";
import { operatorCommands } from "../../../../support/operator-commands.ts";
import { startService, type TestService } from "../../../../support/service.ts";

const day = 86_400_000;
let service: TestService;

interface Pause {
  readonly identity: string;
  readonly serial: string | null;
  readonly key: string | null;
  readonly code: string;
  readonly refusals: number;
  readonly address: string;
}

async function outcome(work: () => Promise<unknown>): Promise<AppError | null> {
  try {
    await work();
    return null;
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    return error;
  }
}

/** Refused until it is paused; each refusal says the truth. */
async function pauseBy(code: string, work: () => Promise<unknown>): Promise<void> {
  for (let count = 0; count < refusalsUntilPaused; count++) assert.equal((await outcome(work))?.code, code);
  await paused(code, work);
}

async function paused(code: string, work: () => Promise<unknown>): Promise<void> {
  const refusal = await outcome(work);
  assert.equal(refusal?.code, "rate-limited");
  assert.match(refusal.message, new RegExp(`^Paused since .*: ${code}: `));
  assert.equal(refusal.retryAfterSeconds, 3_600);
}

async function pausesOf(identity: string): Promise<readonly Pause[]> {
  return (await service.admin<{ items: Pause[] }>("GET", `/v1/pauses?identity=${identity}`)).items;
}

const ask = (host: Host, key: KeyObject, dns: string) => () =>
  call(service, "agents", "POST", "/v1/renewals", { host, body: { csr: csrFor(key, { dns: [dns] }) } });

async function audited(action: string, target: string): Promise<number> {
  const { items } = await service.admin<{ items: unknown[] }>("GET", `/v1/audit?action=${action}&target=${target}`);
  return items.length;
}

describe("hopeless clients", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("the same request refused fifty times is paused, by itself: every other request of the leaf is looked at", async () => {
    const host = await settled(service, "wrong-name");
    const key = await newKey();
    await pauseBy("names-not-permitted", ask(host, key, "foreign.claw.internal"));
    assert.equal(await audited("client.paused", "wrong-name"), 1);
    const [pause, ...others] = await pausesOf("wrong-name");
    assert.deepEqual(others, []);
    assert.deepEqual(
      [pause?.serial, pause?.key, pause?.code, pause?.refusals, pause?.address],
      [host.answer.serial, null, "names-not-permitted", 51, "127.0.0.1"],
    );
    assert.equal((await outcome(ask(host, await newKey(), "foreign.claw.internal")))?.code, "names-not-permitted");
    await use(service, host);
    await renew(service, host);
  });

  it("it stands after a restart, until an operator lifts it", async () => {
    const host = await settled(service, "restarted");
    const key = await newKey();
    const work = ask(host, key, "foreign.claw.internal");
    await pauseBy("names-not-permitted", work);
    await service.restart();
    await paused("names-not-permitted", work);
    const { must, command } = operatorCommands(service);
    assert.match(await must(["pauses", "list"]), /^restarted +names-not-permitted +\w+ +5\d +127\.0\.0\.1 /m);
    assert.match(await must(["pauses", "lift", "restarted", "--yes"]), /looked at again/);
    assert.equal((await outcome(work))?.code, "names-not-permitted");
    assert.deepEqual(await pausesOf("restarted"), []);
    assert.equal((await command(["pauses", "lift", "restarted", "--yes"])).code, 1);
    assert.equal(await audited("pauses.lifted", "restarted"), 1);
  });

  it("a change of the inventory entry ends it: the same request succeeds", async () => {
    const host = await settled(service, "renamed");
    const work = ask(host, await newKey(), "new.claw.internal");
    await pauseBy("names-not-permitted", work);
    await service.admin("PATCH", "/v1/identities/renamed", { names: { dns: ["new.claw.internal"] } });
    assert.equal(await outcome(work), null);
  });

  it("a leaf the gate refuses is paused; lifting the hold ends it, and the identity's next leaf was never held up", async () => {
    const host = await settled(service, "on-hold");
    const next = await renew(service, host);
    await service.admin("POST", `/v1/certificates/${host.answer.serial}/revocation`, { reason: "certificateHold" });
    await pauseBy("certificate-revoked", () => use(service, host));
    await service.admin("DELETE", `/v1/certificates/${host.answer.serial}/revocation`);
    assert.equal(await outcome(() => use(service, host)), null);
    await use(service, next);
  });

  it("whoever stole an old leaf pauses that leaf; the rightful holder goes on, and the theft is still seen", async () => {
    const stolen = await settled(service, "robbed");
    const rightful = await renew(service, stolen);
    await use(service, rightful);
    service.clock.advance(day + 3_600_000);
    await pauseBy("certificate-superseded", () => use(service, stolen));
    await use(service, rightful);
    assert.equal((await outcome(() => renew(service, stolen)))?.code, "lineage-locked");
    assert.equal(await audited("lineage.conflict", rightful.answer.lineage), 1);
  });

  it("whoever stole an old leaf cannot hide it behind requests that nobody can read", async () => {
    const stolen = await settled(service, "robbed-too");
    const rightful = await renew(service, stolen);
    await use(service, rightful);
    service.clock.advance(day + 3_600_000);
    const garbage = () => call(service, "agents", "POST", "/v1/renewals", { host: stolen, body: { csr: "garbage" } });
    for (let count = 0; count < refusalsUntilPaused + 5; count++)
      assert.equal((await outcome(garbage))?.code, "certificate-superseded");
    const lostAnswer = { host: stolen, body: { csr: csrFor(rightful.key) } };
    assert.equal((await call(service, "agents", "POST", "/v1/renewals", lostAnswer)).status, 200);
    assert.equal((await outcome(() => renew(service, stolen)))?.code, "lineage-locked");
  });

  it("both holders of a locked lineage are paused, and the release lets the rightful one in at once", async () => {
    const stolen = await settled(service, "locked");
    const rightful = await renew(service, stolen);
    await use(service, rightful);
    assert.equal((await outcome(() => renew(service, stolen)))?.code, "lineage-locked");
    await pauseBy("lineage-locked", () => renew(service, rightful));
    await service.admin("POST", `/v1/lineages/${rightful.answer.lineage}/release`);
    await renew(service, rightful);
  });

  it("an enrollment by a known key that is refused again and again is paused; a token, or a grant, is another matter", async () => {
    const host = await enrolled(service, "known-key");
    const body = { csr: csrFor(host.key), token: await service.token("other-host") };
    const work = () => call(service, "enrollment", "POST", "/v1/enrollments", { body });
    await pauseBy("key-in-use", work);
    const [pause] = await pausesOf("known-key");
    assert.match(pause?.key ?? "", /^sha256:/);
    const own = { csr: csrFor(host.key), token: await service.token("known-key") };
    await call(service, "enrollment", "POST", "/v1/enrollments", { body: own });
  });

  it("an approved key that waits for the last usable leaf to end is looked at when it has ended", async () => {
    const { answer } = await settled(service, "comes-back");
    const body = { csr: csrFor(await newKey()), token: await service.token("comes-back") };
    const newest = (await call(service, "enrollment", "POST", "/v1/enrollments", { body })).body as CertificateAnswer;
    const revoke = (serial: string) =>
      service.admin("POST", `/v1/certificates/${serial}/revocation`, { reason: "cessationOfOperation" });
    await revoke(newest.serial);
    const key = await newKey();
    await service.admin("PATCH", "/v1/identities/comes-back", { keys: [keyFingerprint(key)] });
    const work = () => call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(key) } });
    await pauseBy("enrollment-denied", work);
    await revoke(answer.serial);
    assert.equal(await outcome(work), null);
  });

  it("strangers are never paused: their keys cost them nothing", async () => {
    const body = { csr: csrFor(await newKey()), token: "nl1.not.a.token" };
    const work = () => call(service, "enrollment", "POST", "/v1/enrollments", { body });
    const first = (await outcome(work))?.code;
    for (let count = 0; count < refusalsUntilPaused + 5; count++) assert.equal((await outcome(work))?.code, first);
  });

  it("after a day it ends by itself", async () => {
    const host = await settled(service, "patient");
    const work = ask(host, await newKey(), "foreign.claw.internal");
    await pauseBy("names-not-permitted", work);
    const text = await (await fetch(new URL("/metrics", service.urls.ops))).text();
    assert.match(text, /^newleaf_paused_clients [1-9]/m);
    service.clock.advance(day + 1);
    assert.equal((await outcome(work))?.code, "names-not-permitted");
    assert.deepEqual(await pausesOf("patient"), []);
  });
});
