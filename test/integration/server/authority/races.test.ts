/**
 * What was decided on is checked again when it is written: another act is let in right between the two, at the worst moment,
 * by a store that pauses after one read.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import { X509Certificate } from "node:crypto";
import type { Authority, Caller } from "../../../../server/authority/authority.ts";
import { admit } from "../../../../server/authority/gate.ts";
import { enroll } from "../../../../server/authority/enrollment/enroll.ts";
import { removeIdentity } from "../../../../server/authority/inventory/identities.ts";
import { addOperator } from "../../../../server/authority/inventory/operators.ts";
import { renew as renewUseCase } from "../../../../server/authority/renew.ts";
import { revoke } from "../../../../server/authority/revocation/revoke.ts";
import { createToken, grantRecovery } from "../../../../server/authority/enrollment/tokens.ts";
import type { Store } from "../../../../server/store/store.ts";
import { call, csrFor, enrolled, newKey, renew, settled, type Host } from "../../../support/agent-client.ts";
import { operatorId, startService, type TestService } from "../../../support/service.ts";

let service: TestService;

/** The service's authority, except that `act` happens once, right after the first answer of `method`. */
function pausedAfter(method: keyof Store, act: () => Promise<unknown>): Authority {
  const { authority } = service.server;
  let done = false;
  const store = new Proxy(authority.store, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver);
      if (name !== method || typeof value !== "function") return value;
      return async (...given: unknown[]) => {
        const answer: unknown = await Reflect.apply(value, target, given);
        if (!done) {
          done = true;
          await act();
        }
        return answer;
      };
    },
  });
  return { ...authority, store };
}

const admin = (): Caller => ({
  requestId: "test",
  address: "127.0.0.1",
  actorKind: "operator",
  actor: operatorId,
  role: "admin",
});

const stranger = (): Caller => ({ requestId: "test", address: "127.0.0.1", actorKind: "stranger", actor: "stranger" });

const peerOf = ({ answer }: Host) => {
  const certificate = new X509Certificate(answer.certificate);
  return { certificate, serial: normaliseSerial(certificate.serialNumber), verified: true };
};

const stateOf = async (host: Host): Promise<string | undefined> =>
  (await service.server.authority.store.findCertificate(host.answer.serial))?.state;

describe("between decision and write", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  for (const [what, method] of [
    ["lineage", "listLineageCertificates"],
    ["identity", "listCertificates"],
  ] as const) {
    it(`revoking by ${what} also takes the leaf that is issued while it is decided`, async () => {
      const id = `slips-${what}`;
      const thief = await settled(service, id);
      const slipped: Host[] = [];
      const authority = pausedAfter(method, async () => void slipped.push(await renew(service, thief)));
      const target = what === "lineage" ? { lineage: thief.answer.lineage } : { identity: id };
      await revoke(authority, admin(), target, "keyCompromise");
      const [late] = slipped;
      assert.ok(late);
      assert.equal(await stateOf(late), "revoked");
      assert.equal(await authority.store.isKeyBlocked(keyFingerprint(late.key)), true);
    });
  }

  it("a thief who renews without pause cannot keep a revocation from being written", async () => {
    const thief = await settled(service, "restless");
    let stop = false;
    const leaves: Host[] = [];
    const renewing = Promise.all(
      Array.from({ length: 16 }, async () => {
        while (!stop) {
          const leaf = await renew(service, thief).catch(() => null);
          if (leaf !== null) leaves.push(leaf);
        }
      }),
    );
    while (leaves.length < 8) await new Promise((resolve) => setTimeout(resolve, 5));
    try {
      await service.admin("POST", "/v1/revocations", { identity: "restless", reason: "keyCompromise" });
    } finally {
      stop = true;
      await renewing;
    }
    for (const leaf of leaves) assert.match((await stateOf(leaf)) ?? "", /^(revoked|replaced)$/);
  });

  it("an identity that is suspended while its renewal is decided gets nothing", async () => {
    const host = await settled(service, "suspended-meanwhile");
    const authority = pausedAfter("findSuccessor", () =>
      service.admin("POST", "/v1/identities/suspended-meanwhile/suspension"),
    );
    const leaf = (await authority.store.findPresented(host.answer.serial)) ?? assert.fail();
    await assert.rejects(renewUseCase(authority, stranger(), leaf, csrFor(await newKey())), {
      code: "identity-suspended",
    });
  });

  it("a renewal that lands while another is decided is replaced by it: one leaf waits, not two", async () => {
    const host = await settled(service, "overtaken");
    const authority = pausedAfter("findSuccessor", () => renew(service, host));
    const leaf = (await authority.store.findPresented(host.answer.serial)) ?? assert.fail();
    await renewUseCase(authority, stranger(), leaf, csrFor(await newKey()));
    const leaves = await authority.store.listLineageCertificates(host.answer.lineage);
    assert.deepEqual(
      leaves.map(({ state }) => state),
      ["current", "replaced", "pending"],
    );
  });

  it("a pending leaf that is replaced while it authenticates locks the lineage", async () => {
    const first = await settled(service, "replaced-meanwhile");
    const pending = await renew(service, first);
    const authority = pausedAfter("findPresented", () => renew(service, first));
    await assert.rejects(admit(authority, stranger(), peerOf(pending), { toRenew: false }), { code: "lineage-locked" });
    assert.equal((await authority.store.findLineage(first.answer.lineage))?.state, "locked");
  });

  it("a pending leaf that is revoked while it authenticates is refused", async () => {
    const pending = await enrolled(service, "revoked-meanwhile");
    const authority = pausedAfter("findPresented", () =>
      service.admin("POST", `/v1/certificates/${pending.answer.serial}/revocation`, { reason: "keyCompromise" }),
    );
    await assert.rejects(admit(authority, stranger(), peerOf(pending), { toRenew: false }), {
      code: "certificate-revoked",
    });
  });

  it("two approved keys that enroll at once do not both get a leaf", async () => {
    const [one, other] = [await newKey(), await newKey()];
    await service.admin("POST", "/v1/identities", {
      id: "two-keys",
      profile: "agent",
      keys: [keyFingerprint(one), keyFingerprint(other)],
    });
    const authority = pausedAfter("listUsable", () =>
      enroll(service.server.authority, stranger(), { csr: csrFor(other) }),
    );
    await assert.rejects(enroll(authority, stranger(), { csr: csrFor(one) }), { code: "enrollment-denied" });
    assert.equal((await authority.store.listUsable("two-keys", authority.clock.now())).length, 1);
  });

  it("an identity is not removed with a leaf that was issued while its leaves were revoked", async () => {
    const token = await service.token("removed-meanwhile");
    const key = await newKey();
    const authority = pausedAfter("listCertificates", () =>
      enroll(service.server.authority, stranger(), { csr: csrFor(key), token }),
    );
    await removeIdentity(authority, admin(), "removed-meanwhile");
    assert.deepEqual(await authority.store.listUsable("removed-meanwhile", authority.clock.now()), []);
  });

  for (const [what, give] of [
    ["token", createToken],
    ["recovery grant", grantRecovery],
  ] as const) {
    it(`a ${what} that is made while its identity is removed waits for no operator of that name`, async () => {
      const id = `${what.replace(" ", "-")}@operators`;
      await service.admin("POST", "/v1/identities", { id, profile: "agent" });
      const mallory: Caller = { ...admin(), actor: "mallory@operators", role: "operator" };
      const authority = pausedAfter("findIdentity", () => service.admin("DELETE", `/v1/identities/${id}`));
      await assert.rejects(give(authority, mallory, id, 86_400_000), { code: "identity-unknown" });
      const again = pausedAfter("findIdentity", async () => {
        const operator = { id, role: "admin", names: { dns: [], ip: [], uri: [], email: [] }, labels: {} } as const;
        await service.admin("DELETE", `/v1/identities/${id}`);
        await addOperator(service.server.authority, admin(), operator, 3_600_000);
      });
      await service.admin("POST", "/v1/identities", { id, profile: "agent" });
      await assert.rejects(give(again, mallory, id, 86_400_000), { code: "not-permitted" });
      const { store, clock } = service.server.authority;
      const tokens = (await store.listTokens({ limit: 9, identity: id })).items;
      assert.deepEqual(
        tokens.map(({ createdBy }) => createdBy),
        [operatorId],
        "none but the one for the operator's own login",
      );
      assert.equal(await store.findOpenGrant(id, clock.now()), null);
    });
  }
});

describe("a suspended identity", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("is not given the leaf of a spent token once more", async () => {
    const token = await service.token("repeats");
    const csr = csrFor(await newKey());
    const { authority } = service.server;
    await enroll(authority, stranger(), { csr, token });
    await service.admin("POST", "/v1/identities/repeats/suspension");
    await assert.rejects(enroll(authority, stranger(), { csr, token }), { code: "identity-suspended" });
  });

  it("is not given the leaf of an approved request", async () => {
    const { authority } = service.server;
    const asked = await enroll(authority, stranger(), { csr: csrFor(await newKey()) });
    assert.equal(asked.kind, "pending");
    if (asked.kind !== "pending") return;
    await service.admin("POST", "/v1/identities", { id: "approved", profile: "agent" });
    const decision = { decision: "approve", identity: "approved", fingerprint: asked.request.key };
    await service.admin("POST", `/v1/approvals/${asked.request.id}/decision`, decision);
    await service.admin("POST", "/v1/identities/approved/suspension");
    await assert.rejects(call(service, "enrollment", "GET", `/v1/enrollments/${asked.request.id}`), {
      code: "identity-suspended",
    });
  });
});
