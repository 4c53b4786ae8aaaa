import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore, refused, stale } from "./suite.ts";

const limits = { maxOpen: 1000, maxOpenPerAddress: 1000 };

export function enrollmentContract(open: OpenStore): void {
  describe("tokens, requests and grants", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      await f.addIdentity(store, "gateway-1");
    });
    after(() => store[Symbol.asyncDispose]());

    const newToken = (id = f.newId()) => ({
      id,
      secretHash: f.newId(),
      identity: "gateway-1",
      createdBy: f.adminId,
      createdAt: f.t0,
      expiresAt: f.t0 + f.day,
      spentAt: null,
      spentOn: null,
      revokedAt: null,
    });

    it("keeps a token under the hash of its secret, which no answer gives back", async () => {
      const token = newToken();
      await store.createToken(token, 1, [f.audit("token.created", token.id)]);
      const { secretHash, ...row } = token;
      assert.deepEqual(await store.findToken(secretHash), row);
      assert.equal(await store.findToken(token.id), null);
      const listed = await store.listTokens({ limit: 1, identity: "gateway-1" });
      assert.deepEqual(listed.items, [row]);
      assert.ok(!JSON.stringify(await store.readAuditChain(0, 1000)).includes(secretHash));
    });

    it("revokes a token once, and an unknown one not at all", async () => {
      const token = newToken();
      await store.createToken(token, 1, []);
      await store.revokeToken(token.id, f.t0 + 1, []);
      await store.revokeToken(token.id, f.t0 + 2, []);
      assert.equal((await store.findToken(token.secretHash))?.revokedAt, f.t0 + 1);
      await assert.rejects(store.revokeToken(f.newId(), f.t0, []), refused("not-found"));
    });

    it("keeps a request as it came and returns it to the same key instead of a new one", async () => {
      const request = f.request({ claim: "I am gateway-9", askedNames: ["a", "ö"] });
      const opened = await store.openRequest(request, limits, [f.audit("enrollment.requested", request.id)]);
      assert.equal(opened.id, request.id);
      const { csr, ...found } = (await store.findRequest(request.id, f.t0)) ?? assert.fail();
      const { csr: expected, ...fields } = request;
      assert.deepEqual(found, fields);
      assert.deepEqual(Buffer.from(csr), Buffer.from(expected));
      const before = await actions(store);
      const again = await store.openRequest(f.request({ key: request.key }), limits, [f.audit("enrollment.requested")]);
      assert.equal(again.id, request.id);
      assert.deepEqual(Buffer.from(again.csr), Buffer.from(expected));
      assert.deepEqual(await actions(store), before, "a stranger who repeats himself adds no audit rows");
      assert.equal((await store.findRequestByKey(request.key, f.t0))?.id, request.id);
    });

    it("forgets a request when it expires", async () => {
      const request = f.request();
      await store.openRequest(request, limits, []);
      assert.ok(await store.findRequest(request.id, request.expiresAt - 1));
      assert.equal(await store.findRequest(request.id, request.expiresAt), null);
      assert.equal(await store.findRequestByKey(request.key, request.expiresAt), null);
      const later = f.request({ key: request.key, createdAt: request.expiresAt });
      assert.equal((await store.openRequest(later, limits, [])).id, later.id);
      assert.equal(await store.findRequest(request.id, f.t0), null, "dropped on the way");
    });

    it("bounds open requests in all and per address with rate-limited", async () => {
      const now = f.t0 + 10 * f.day;
      const from = (address: string) =>
        store.openRequest(f.request({ address, createdAt: now }), { maxOpen: 3, maxOpenPerAddress: 2 }, []);
      await from("192.0.2.7");
      const mine = await from("192.0.2.7");
      await assert.rejects(from("192.0.2.7"), refused("rate-limited"));
      await from("192.0.2.8");
      await assert.rejects(from("192.0.2.9"), refused("rate-limited"));
      assert.equal(await store.countPendingRequests(now), 3);
      await store.denyRequest(mine.id, f.adminId, now, []);
      await from("192.0.2.9");
      assert.equal(await store.countPendingRequests(now + f.day), 0);
    });

    it("counts an IPv6 /64 as one address, and an IPv4 address written as IPv6 as itself", async () => {
      const now = f.t0 + 12 * f.day;
      const from = (address: string) =>
        store.openRequest(f.request({ address, createdAt: now }), { maxOpen: 9, maxOpenPerAddress: 2 }, []);
      await from("2001:db8:1:2::7");
      await from("2001:db8:1:2:ffff::8");
      await assert.rejects(from("2001:db8:1:2:1:2:3:4"), refused("rate-limited"));
      await from("2001:db8:1:3::7");
      await from("::ffff:192.0.2.7");
      await from("192.0.2.7");
      await assert.rejects(from("192.0.2.7"), refused("rate-limited"));
    });

    it("denies a pending request; a decision that comes second is stale", async () => {
      const request = await store.openRequest(f.request({ createdAt: f.t0 + 20 * f.day }), limits, []);
      const now = request.createdAt + 1;
      await store.denyRequest(request.id, f.adminId, now, [f.audit("enrollment.denied", request.id)]);
      const denied = await store.findRequest(request.id, now);
      assert.deepEqual([denied?.state, denied?.decidedBy, denied?.decidedAt], ["denied", f.adminId, now]);
      await assert.rejects(store.denyRequest(request.id, f.adminId, now, []), stale);
      const again = await store.openRequest(f.request({ key: request.key, createdAt: now }), limits, []);
      assert.deepEqual([again.id, again.state], [request.id, "denied"], "no is no, also for who asks again");
      const certificate = f.leaf("gateway-1", { key: request.key });
      const record = f.enrollment(certificate);
      await assert.rejects(
        store.recordIssuance({ ...record, basis: { ...record.basis, requestId: request.id } }),
        stale,
      );
      const other = await store.openRequest(f.request({ createdAt: now }), limits, []);
      const wrongKey = f.enrollment(f.leaf("gateway-1"));
      await assert.rejects(
        store.recordIssuance({ ...wrongKey, basis: { ...wrongKey.basis, requestId: other.id } }),
        stale,
        "an approval covers the key that asked, no other",
      );
      const pending = await store.listRequests({ limit: 10, state: "pending", now });
      assert.deepEqual(
        pending.items.map((row) => row.id),
        [other.id],
      );
      assert.equal((await store.listRequests({ limit: 10, now })).items.length, 2);
    });

    it("answers a pending request when its key is enrolled in another way, and no other request", async () => {
      const at = f.t0 + 30 * f.day;
      const [mine, other] = [f.request({ createdAt: at }), f.request({ createdAt: at })];
      for (const request of [mine, other]) await store.openRequest(request, limits, []);
      await f.addIdentity(store, "impatient");
      const leaf = f.leaf("impatient", { key: mine.key });
      await store.recordIssuance(f.enrollment(leaf));
      const answered = await store.findRequest(mine.id, at + 1);
      assert.deepEqual(
        [answered?.state, answered?.identity, answered?.serial, answered?.decidedBy],
        ["issued", "impatient", leaf.serial, null],
      );
      assert.equal((await store.findRequest(other.id, at + 1))?.state, "pending");
    });

    it("finds a grant while it is open", async () => {
      await f.addIdentity(store, "granted");
      const grant = {
        id: f.newId(),
        identity: "granted",
        createdBy: f.adminId,
        createdAt: f.t0,
        expiresAt: f.t0 + 9,
        spentAt: null,
      };
      await store.createGrant(grant, 1, [f.audit("recovery.granted", "granted")]);
      assert.deepEqual(await store.findOpenGrant("granted", f.t0 + 8), grant);
      assert.equal(await store.findOpenGrant("granted", f.t0 + 9), null);
      assert.equal(await store.findOpenGrant("gateway-1", f.t0), null);
    });
  });
}
