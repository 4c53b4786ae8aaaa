import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { call, csrFor, enrolled, newKey, renew, settled, use, type Host } from "../support/agent-client.ts";
import { startService, type TestService } from "../support/service.ts";

let service: TestService;

const hour = 3_600_000;

async function stateOf(host: Host): Promise<string> {
  return (await service.admin<{ state: string }>("GET", `/v1/certificates/${host.answer.serial}`)).state;
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1] ?? Number.NaN);
}

describe("lineage", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("a new leaf is pending until it authenticates, then current, and its parent superseded", async () => {
    const first = await enrolled(service, "promote");
    assert.equal(await stateOf(first), "pending");
    await use(service, first);
    assert.equal(await stateOf(first), "current");
    const second = await renew(service, first);
    assert.deepEqual([await stateOf(first), await stateOf(second)], ["current", "pending"]);
    await use(service, second);
    assert.deepEqual([await stateOf(first), await stateOf(second)], ["superseded", "current"]);
    assert.equal(second.answer.lineage, first.answer.lineage);
    assert.equal(second.answer.generation, 2);
  });

  it("a superseded leaf is quiet for five minutes, a stale use after that, and refused when the overlap ends", async () => {
    const clock = service.clock;
    const first = await settled(service, "overlap");
    const second = await renew(service, first);
    await use(service, second);
    const stale = await metric("newleaf_lineage_stale_uses_total");
    await use(service, first);
    assert.equal(await metric("newleaf_lineage_stale_uses_total"), stale);
    clock.advance(6 * 60_000);
    await use(service, first);
    assert.equal(await metric("newleaf_lineage_stale_uses_total"), stale + 1);
    clock.advance(24 * hour);
    await assert.rejects(use(service, first), { code: "certificate-superseded" });
    const { items } = await service.admin<{ items: { action: string }[] }>("GET", `/v1/audit?action=lineage.stale-use`);
    assert.equal(items.length, 1);
    const lostAnswer = await call(service, "agents", "POST", "/v1/renewals", {
      host: first,
      body: { csr: csrFor(second.key) },
    });
    assert.equal(lostAnswer.status, 200, "the successor for the successor's key, also after the overlap");
  });

  it("a token starts a new lineage, and the old one is superseded at the new leaf's first use", async () => {
    const old = await settled(service, "moved");
    const fresh = await enrolled(service, "moved");
    assert.notEqual(fresh.answer.lineage, old.answer.lineage);
    assert.equal(await stateOf(old), "current");
    await use(service, fresh);
    assert.equal(await stateOf(old), "superseded");
    await assert.rejects(renew(service, old), { code: "lineage-locked" });
    const next = await renew(service, fresh);
    assert.equal(next.answer.generation, 2, "the lock is on the old lineage alone");
  });

  it("a locked lineage bars enrollment until it is released", async () => {
    const first = await settled(service, "locked");
    const second = await renew(service, first);
    await use(service, second);
    const token = await service.token("locked");
    await assert.rejects(renew(service, first), { code: "lineage-locked" });
    const body = { csr: csrFor(await newKey()), token };
    await assert.rejects(call(service, "enrollment", "POST", "/v1/enrollments", { body }), { code: "lineage-locked" });
    assert.equal((await metric("newleaf_lineages_locked")) > 0, true);
    await service.admin("POST", `/v1/lineages/${first.answer.lineage}/release`);
    await assert.rejects(service.admin("POST", `/v1/lineages/${first.answer.lineage}/release`), { code: "conflict" });
    assert.equal((await call(service, "enrollment", "POST", "/v1/enrollments", { body })).status, 201);
  });

  it("revoking a lineage ends all generations and blocks their keys", async () => {
    const first = await settled(service, "ended");
    const second = await renew(service, first);
    await use(service, second);
    const outcome = await service.admin<{ revoked: unknown[]; blockedKeys: string[] }>("POST", "/v1/revocations", {
      lineage: first.answer.lineage,
      reason: "keyCompromise",
    });
    assert.equal(outcome.revoked.length, 2);
    assert.equal(outcome.blockedKeys.length, 2);
    await assert.rejects(use(service, second), { code: "certificate-revoked" });
    const token = await service.token("ended");
    const body = { csr: csrFor(second.key), token };
    await assert.rejects(call(service, "enrollment", "POST", "/v1/enrollments", { body }), { code: "key-blocked" });
  });

  it("a name the inventory dropped is left out of the renewal and audited, an unknown one refused", async () => {
    const host = await settled(service, "names", { dns: ["a.claw.internal", "b.claw.internal"] });
    await service.admin("PATCH", "/v1/identities/names", { names: { dns: ["a.claw.internal"] } });
    const { body } = await use(service, host);
    assert.equal((body as { reason: string }).reason, "inventory-changed");
    const next = await renew(service, host, { dns: ["a.claw.internal", "b.claw.internal"] });
    await assert.rejects(renew(service, host, { dns: ["c.claw.internal"] }), { code: "names-not-permitted" });
    const { X509Certificate } = await import("node:crypto");
    assert.equal(new X509Certificate(next.answer.certificate).subjectAltName, "DNS:a.claw.internal");
    const { items } = await service.admin<{ items: { detail: { names: string[] } }[] }>(
      "GET",
      "/v1/audit?action=names.dropped",
    );
    assert.deepEqual(items[0]?.detail.names, ["b.claw.internal"]);
  });

  it("a pending leaf is replaced when the inventory changed since, even for the same key", async () => {
    const host = await settled(service, "changed", { dns: ["old.claw.internal"] });
    const pending = await renew(service, host);
    await service.admin("PATCH", "/v1/identities/changed", { names: { dns: ["new.claw.internal"] } });
    const again = await call(service, "agents", "POST", "/v1/renewals", { host, body: { csr: csrFor(pending.key) } });
    assert.equal(again.status, 201);
    assert.equal(await stateOf(pending), "replaced");
  });

  it("an expired identity comes back with a grant, once, and waits as an approval without one", async () => {
    const host = await settled(service, "lost");
    service.clock.advance(31 * 24 * hour);
    try {
      await assert.rejects(renew(service, host), { code: "certificate-expired" });
      const body = { csr: csrFor(host.key) };
      assert.equal((await call(service, "enrollment", "POST", "/v1/enrollments", { body })).status, 202);
      await service.admin("POST", "/v1/identities/lost/recovery-grants", { ttl: "24h" });
      const answer = await call(service, "enrollment", "POST", "/v1/enrollments", { body });
      assert.equal(answer.status, 201);
      const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
      assert.match(text, /newleaf_issued_total\{profile="agent",kind="recovery"\} 1/);
    } finally {
      service.clock.advance(-31 * 24 * hour);
    }
  });

  it("a hundred renewals at once with one key give one leaf", async () => {
    const host = await settled(service, "rush");
    const body = { csr: csrFor(await newKey()) };
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => call(service, "agents", "POST", "/v1/renewals", { host, body })),
    );
    assert.equal(new Set(answers.map((answer) => (answer.body as { serial: string }).serial)).size, 1);
    assert.equal(answers.filter(({ status }) => status === 201).length, 1);
  });

  it("thirty keys at once leave one pending leaf, the others replaced", async () => {
    const host = await settled(service, "crowd");
    const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => renew(service, host)));
    const refusals = outcomes
      .filter((outcome) => outcome.status === "rejected")
      .map(({ reason }) => (reason as { code: string }).code);
    assert.ok(
      refusals.every((code) => code === "conflict"),
      refusals.join(),
    );
    const { items } = await service.admin<{ items: { state: string }[] }>(
      "GET",
      `/v1/certificates?lineage=${host.answer.lineage}&limit=100`,
    );
    const states = items.map(({ state }) => state);
    assert.equal(states.filter((state) => state === "pending").length, 1, states.join());
    assert.equal(states.filter((state) => state === "current").length, 1);
  });
});
