/** Identities of profile operator are touched only by an admin, on every way to them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { requestJson } from "@newleaf/shared/http-client";
import type { Caller } from "../../../../server/authority/authority.ts";
import { removeIdentity, setSuspended } from "../../../../server/authority/inventory/identities.ts";
import { planInventory } from "../../../../server/authority/inventory/plan.ts";
import { setRole } from "../../../../server/authority/inventory/operators.ts";
import { revoke } from "../../../../server/authority/revocation/revoke.ts";
import { createToken, revokeToken } from "../../../../server/authority/enrollment/tokens.ts";
import { StaleBasis } from "../../../../server/store/store.ts";
import type { Role } from "../../../../server/store/identities.ts";
import { call, csrFor, newKey } from "../../../support/agent-client.ts";
import { person } from "../../../support/operators.ts";
import { operatorId, startService, type TestService } from "../../../support/service.ts";

let service: TestService;

const as = (role: Role): Caller => ({
  requestId: "test",
  address: "127.0.0.1",
  actorKind: "operator",
  actor: role,
  role,
});

describe("a lesser role", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("does not revoke the token of an operator", async () => {
    const { authority } = service.server;
    const { id } = await createToken(authority, as("admin"), operatorId, 60_000);
    await assert.rejects(revokeToken(authority, as("operator"), id), { code: "not-permitted" });
    await revokeToken(authority, as("admin"), id);
  });

  it("does not block an operator's key that no leaf in date is for", async () => {
    const { authority } = service.server;
    const key = keyFingerprint(await newKey());
    await service.admin("PATCH", `/v1/identities/${operatorId}`, { keys: [key] });
    await assert.rejects(revoke(authority, as("operator"), { key }, "keyCompromise"), { code: "not-permitted" });
    assert.equal(await authority.store.isKeyBlocked(key), false);
  });

  it("does not hold the service up with a plan of many identities that share a name", async () => {
    const { authority } = service.server;
    const names = { dns: ["shared.claw.internal"], ip: [], uri: [], email: [] };
    const identities = Array.from({ length: 40_000 }, (_, index) => ({
      id: `many-${index}`,
      profile: "agent" as const,
      names,
      keys: [],
      labels: {},
    }));
    const begun = performance.now();
    const { warnings } = await planInventory(authority, { identities, prune: false, revokeLive: false });
    assert.ok(performance.now() - begun < 3_000, `${Math.round(performance.now() - begun)} ms`);
    assert.equal(warnings.length, 1);
    assert.ok((warnings[0]?.length ?? 0) < 1_000);
  });

  it("does not reach an act without a body's content type", async () => {
    const [chain, key] = await Promise.all([
      readFile(service.operator.chainFile, "utf8"),
      readFile(service.operator.keyFile, "utf8"),
    ]);
    const request = requestJson({
      url: `${service.urls.admin}/v1/identities/${operatorId}/suspension`,
      method: "POST",
      headers: { "x-newleaf-client": "test", "content-type": "text/plain" },
      body: {},
      tls: { ca: service.roots, cert: chain, key },
      timeoutMs: 10_000,
      maxBytes: 100_000,
    });
    await assert.rejects(request, { code: "media-type-unsupported" });
  });
});

describe("the last admin", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("is neither removed nor suspended, and loses no certificate by the attempt", async () => {
    const { authority } = service.server;
    await assert.rejects(removeIdentity(authority, as("admin"), operatorId), { code: "not-permitted" });
    await assert.rejects(setSuspended(authority, as("admin"), operatorId, true), { code: "not-permitted" });
    const identity = await service.admin<{ state: string }>("GET", `/v1/identities/${operatorId}`);
    assert.equal(identity.state, "active");
  });

  it("may go once there is another who can act; one without a certificate does not count", async () => {
    const { authority } = service.server;
    const { token } = await service.admin<{ token: string }>("POST", "/v1/operators", {
      id: "late@operators",
      role: "admin",
    });
    await assert.rejects(removeIdentity(authority, as("admin"), operatorId), { code: "not-permitted" });
    await assert.rejects(setRole(authority, as("admin"), operatorId, "viewer"), { code: "not-permitted" });
    assert.ok(token);

    const second = await person(service, "second@operators", "admin");
    await setSuspended(authority, as("admin"), second.id, true);
    await assert.rejects(removeIdentity(authority, as("admin"), operatorId), { code: "not-permitted" });
    await setSuspended(authority, as("admin"), second.id, false);
    await service.admin("POST", `/v1/certificates/${second.host.answer.serial}/revocation`, {
      reason: "certificateHold",
    });
    await assert.rejects(removeIdentity(authority, as("admin"), operatorId), { code: "not-permitted" });
    await service.admin("DELETE", `/v1/certificates/${second.host.answer.serial}/revocation`);
    await removeIdentity(authority, as("admin"), operatorId);
    assert.equal((await authority.store.findIdentity(operatorId))?.state, "removed");
  });

  it("stays when two admins take each other's role at the same moment", async () => {
    await using other = await startService();
    const second = await person(other, "second@operators", "admin");
    const done = await Promise.allSettled([
      other.admin("PATCH", `/v1/operators/${second.id}`, { role: "viewer" }),
      second.ask("PATCH", `/v1/operators/${operatorId}`, { role: "viewer" }),
    ]);
    const { items } = await other.server.authority.store.listIdentities({ profile: "operator", limit: 10, now: 0 });
    const admins = items.filter(({ role }) => role === "admin");
    assert.equal(admins.length, 1, JSON.stringify(done.map(({ status }) => status)));
  });

  it("is kept by the store itself, whatever was read before", async () => {
    await using other = await startService();
    const { store, clock } = other.server.authority;
    const row = await store.findIdentity(operatorId);
    const basis = { id: operatorId, basisRevision: row?.revision ?? 0 };
    const now = clock.now();
    await assert.rejects(store.setRole({ ...basis, role: "viewer" }, now, []), { code: "not-permitted" });
    await assert.rejects(store.setIdentityState(operatorId, "suspended", now, []), { code: "not-permitted" });
    await assert.rejects(store.changeInventory([{ kind: "remove", ...basis }], now, []), { code: "not-permitted" });
    await assert.rejects(store.setRole({ ...basis, basisRevision: 99, role: "viewer" }, now, []), StaleBasis);
  });
});

describe("a role", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("counts from the next request on, up and down", async () => {
    const alice = await person(service, "alice@operators", "viewer");
    const add = (id: string) => alice.ask("POST", "/v1/identities", { id, profile: "agent" });
    await assert.rejects(add("one"), { code: "not-permitted" });
    await service.admin("PATCH", `/v1/operators/${alice.id}`, { role: "operator" });
    await add("one");
    await service.admin("PATCH", `/v1/operators/${alice.id}`, { role: "viewer" });
    await assert.rejects(add("two"), { code: "not-permitted" });
    await service.admin("DELETE", `/v1/operators/${alice.id}`);
    await assert.rejects(alice.ask("GET", "/v1/status"), { code: "certificate-revoked" });
  });

  it("does not climb by approving, tokening, granting, re-keying or applying an operator's identity, nor by any other act on it", async () => {
    const target = await person(service, "target@operators", "admin");
    const lesser = await person(service, "lesser@operators", "operator");
    const identity = `/v1/identities/${target.id}`;
    const key = keyFingerprint(await newKey());
    const entry = { id: target.id, profile: "operator", keys: [key] };
    const { host } = target;
    const waiting = await newKey();
    const asked = { body: { csr: csrFor(waiting) } };
    const { body } = await call(service, "enrollment", "POST", "/v1/enrollments", asked);
    const { id } = body as { id: string };
    const approval = { decision: "approve", identity: target.id, fingerprint: keyFingerprint(waiting) };
    const attempts: readonly (readonly ["POST" | "PATCH" | "DELETE", string, unknown?])[] = [
      ["POST", `/v1/approvals/${id}/decision`, approval],
      ["POST", "/v1/tokens", { identity: target.id }],
      ["POST", `${identity}/recovery-grants`, {}],
      ["PATCH", identity, { keys: [key] }],
      ["PATCH", identity, { rearmKeys: true }],
      ["PATCH", identity, { profile: "agent" }],
      ["POST", "/v1/inventory/apply", { identities: [entry] }],
      ["POST", "/v1/inventory/apply", { identities: [{ ...entry, id: "new@operators" }] }],
      ["POST", "/v1/identities", { ...entry, id: "new@operators" }],
      ["POST", "/v1/operators", { id: "new@operators", role: "viewer" }],
      ["PATCH", `/v1/operators/${lesser.id}`, { role: "admin" }],
      ["PATCH", `/v1/operators/${target.id}`, { role: "viewer" }],
      ["DELETE", `/v1/operators/${target.id}`],
      ["DELETE", identity],
      ["POST", `${identity}/suspension`],
      ["POST", `/v1/certificates/${host.answer.serial}/revocation`, {}],
      ["POST", "/v1/revocations", { lineage: host.answer.lineage }],
      ["POST", "/v1/revocations", { key: keyFingerprint(host.key) }],
    ];
    for (const [method, path, sent] of attempts)
      await assert.rejects(lesser.ask(method, path, sent), { code: "not-permitted" }, `${method} ${path}`);
    assert.equal((await lesser.ask<{ role: string }>("GET", `/v1/operators/${lesser.id}`)).role, "operator");
    await target.ask("GET", "/v1/status");
    // Nor by a plain identity that becomes one.
    await lesser.ask("POST", "/v1/identities", { id: "plain", profile: "agent" });
    const become = lesser.ask("PATCH", "/v1/identities/plain", { profile: "operator" });
    await assert.rejects(become, { code: "not-permitted" });
    const apply = { identities: [{ id: "plain", profile: "operator" }] };
    await assert.rejects(lesser.ask("POST", "/v1/inventory/apply", apply), { code: "not-permitted" });
  });

  it("is gone with the operator: who is made anew under the name begins with the role given then", async () => {
    await person(service, "again@operators", "admin");
    await service.admin("DELETE", "/v1/operators/again@operators");
    const again = await person(service, "again@operators", "viewer");
    await assert.rejects(again.ask("POST", "/v1/tokens", { identity: again.id }), { code: "not-permitted" });
    await assert.rejects(service.admin("POST", "/v1/operators", { id: again.id, role: "admin" }), { code: "conflict" });
    await assert.rejects(service.admin("GET", "/v1/operators/plain"), { code: "not-found" });
  });
});
