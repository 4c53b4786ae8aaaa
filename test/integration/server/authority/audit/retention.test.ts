/** Retention in a running service: when it runs, what it leaves, and that a clock that jumped makes nothing old. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createRetention, forgetExpired } from "../../../../../server/authority/audit/retention.ts";
import { serviceIdentity } from "../../../../../server/authority/found.ts";
import { startService, type TestService } from "../../../../support/service.ts";

const day = 86_400_000;
let service: TestService;
let elapsed = 0;

before(async () => {
  service = await startService();
  // Each start has a certificate of its own.
  await service.restart();
  await service.restart();
});
after(() => service[Symbol.asyncDispose]());

const authority = () => service.server.authority;
const ownCertificates = async () =>
  (await authority().store.listCertificates({ identity: serviceIdentity, limit: 100, now: authority().clock.now() }))
    .items;
const runs = async () =>
  (await authority().store.listAudit({ action: "retention.applied", limit: 100 })).items.map((row) => row.detail);
const pass = (ms: number): void => {
  elapsed += ms;
  service.clock.advance(ms);
};

describe("retention", () => {
  it("waits a day before it believes the clock, and anew after each jump", async () => {
    const retention = createRetention(authority(), () => elapsed);
    await retention.run();
    pass(day / 2);
    await retention.run();
    service.clock.advance(500 * day);
    await retention.run();
    pass(day - 1);
    await retention.run();
    assert.deepEqual(await runs(), [], "not yet");
    assert.equal((await ownCertificates()).length, 3);

    pass(1);
    await retention.run();
    const [run] = await runs();
    assert.equal(run?.["certificates"], 2, "all but the newest, which is of an identity that exists");
    assert.deepEqual((await ownCertificates()).length, 1);
    assert.equal((await runs()).length, 1, "one row for the run");
  });

  it("runs once a day, and after a restart of a service that has run it lately", async () => {
    const retention = createRetention(authority(), () => elapsed);
    await retention.run();
    pass(day - 60_000);
    await retention.run();
    assert.equal((await runs()).length, 1);
    pass(60_000);
    await retention.run();
    assert.equal((await runs()).length, 2);
  });

  it("never runs when it is off", async () => {
    const { config } = authority();
    const off = { ...authority(), config: { ...config, retention: { expired: null } } };
    const retention = createRetention(off, () => elapsed);
    pass(3 * day);
    for (let days = 0; days < 3; days++, pass(day)) await retention.run();
    assert.equal((await runs()).length, 2);
  });

  it("leaves the CRLs as they were, and ends with its row", async () => {
    const numbers = () => [...authority().issuers.crls.values()].map(({ issuerId, number }) => [issuerId, number]);
    const before = numbers();
    await forgetExpired(authority(), authority().clock.now());
    assert.deepEqual(numbers(), before);
    assert.equal((await authority().store.readAuditChain(0, 1000)).at(-1)?.action, "retention.applied");
  });
});
