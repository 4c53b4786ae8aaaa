/** Identities of profile operator are touched only by an admin, on every way to them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { requestJson } from "@newleaf/shared/http-client";
import type { Caller } from "../../../../server/authority/authority.ts";
import { removeIdentity, setSuspended } from "../../../../server/authority/identities.ts";
import { planInventory } from "../../../../server/authority/inventory-plan.ts";
import { revoke } from "../../../../server/authority/revoke.ts";
import { createToken, revokeToken } from "../../../../server/authority/tokens.ts";
import type { Role } from "../../../../server/store/identities.ts";
import { newKey } from "../../../support/agent-client.ts";
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

  it("may go once there is another", async () => {
    const { authority } = service.server;
    const names = { dns: [], ip: [], uri: [], email: [] };
    const entry = { id: "second@operators", profile: "operator" as const, names, keys: [], labels: {} };
    await authority.store.changeInventory([{ kind: "add", entry, role: "admin" }], authority.clock.now(), []);
    await setSuspended(authority, as("admin"), "second@operators", true);
    await assert.rejects(removeIdentity(authority, as("admin"), operatorId), { code: "not-permitted" });
    await setSuspended(authority, as("admin"), "second@operators", false);
    await removeIdentity(authority, as("admin"), operatorId);
    assert.equal((await authority.store.findIdentity(operatorId))?.state, "removed");
  });
});
