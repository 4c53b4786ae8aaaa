import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { InventoryChange } from "../../../../../server/store/identities.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore, refused, stale } from "./suite.ts";

export function inventoryContract(open: OpenStore): void {
  describe("inventory", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    const apply = (...changes: InventoryChange[]) =>
      store.changeInventory(changes, f.t0 + 1, [f.audit("inventory.changed")]);
    const keyOf = async (fingerprint: string) => (await store.findKey(fingerprint)) ?? assert.fail("no such key");

    it("keeps an entry as it was given, and raises the revision with each change", async () => {
      const first = f.entry("kept", {
        names: { dns: ["b.claw", "a.claw"], ip: ["10.0.0.1"], uri: ["spiffe://claw/kept"], email: ["k@claw"] },
        keys: [f.newKey(), f.newKey()],
        labels: { site: "lab", "odd.key": "ö=1" },
      });
      await apply({ kind: "add", entry: first });
      const row = (await store.findIdentity("kept")) ?? assert.fail();
      const state = {
        state: "active",
        revision: 1,
        createdAt: f.t0 + 1,
        updatedAt: f.t0 + 1,
        lastSeenAt: null,
        role: null,
      };
      assert.deepEqual(row, { ...first, ...state });
      const second = { ...first, profile: "agent" as const, keys: [first.keys[1] ?? "", f.newKey()], labels: {} };
      await store.changeInventory([{ kind: "change", entry: second, basisRevision: 1 }], f.t0 + 2, []);
      const changed = await store.findIdentity("kept");
      assert.deepEqual(changed, { ...second, ...state, revision: 2, updatedAt: f.t0 + 2 });
      assert.equal(await store.findIdentity("nobody"), null);
    });

    it("applies all changes or none", async () => {
      await apply({ kind: "add", entry: f.entry("whole") });
      const before = await actions(store);
      await assert.rejects(
        apply(
          { kind: "add", entry: f.entry("half") },
          { kind: "change", entry: f.entry("whole", { labels: { a: "b" } }), basisRevision: 7 },
        ),
        stale,
      );
      assert.equal(await store.findIdentity("half"), null);
      assert.deepEqual((await store.findIdentity("whole"))?.labels, {});
      assert.deepEqual(await actions(store), before);
    });

    it("refuses an id that exists with conflict", async () => {
      await apply({ kind: "add", entry: f.entry("there") });
      await assert.rejects(apply({ kind: "add", entry: f.entry("there") }), refused("conflict"));
    });

    it("removes, hides, and adds again with a revision that goes on rising", async () => {
      await apply({ kind: "add", entry: f.entry("gone", { keys: [f.newKey()] }) });
      await apply({ kind: "remove", id: "gone", basisRevision: 1 });
      const removed = await store.findIdentity("gone");
      assert.deepEqual([removed?.state, removed?.revision, removed?.keys], ["removed", 2, []]);
      await assert.rejects(apply({ kind: "remove", id: "gone", basisRevision: 2 }), stale);
      await assert.rejects(apply({ kind: "change", entry: f.entry("gone"), basisRevision: 2 }), stale);
      await apply({ kind: "add", entry: f.entry("gone", { profile: "agent" }) });
      const back = await store.findIdentity("gone");
      assert.deepEqual([back?.state, back?.revision, back?.profile], ["active", 3, "agent"]);
    });

    it("keeps the role of an operator, and only when it is given", async () => {
      await apply({ kind: "add", entry: f.entry("ann@operators", { profile: "operator" }), role: "approver" });
      assert.equal((await store.findIdentity("ann@operators"))?.role, "approver");
      await apply({ kind: "change", entry: f.entry("ann@operators", { profile: "operator" }), basisRevision: 1 });
      assert.equal((await store.findIdentity("ann@operators"))?.role, "approver");
    });

    it("arms a new approved key once: applying the same list again does not arm what was spent", async () => {
      const key = f.newKey();
      await apply({ kind: "add", entry: f.entry("armed", { keys: [key] }) });
      assert.deepEqual(await keyOf(key), {
        fingerprint: key,
        identity: "armed",
        approved: true,
        armed: true,
        issued: false,
        blockedAt: null,
        approvedBy: null,
      });
      const record = f.enrollment(f.leaf("armed", { key }));
      await store.recordIssuance({ ...record, basis: { ...record.basis, armedKey: key } });
      assert.equal((await keyOf(key)).armed, false);
      await apply({ kind: "change", entry: f.entry("armed", { keys: [key] }), basisRevision: 1 });
      assert.deepEqual([(await keyOf(key)).approved, (await keyOf(key)).armed], [true, false]);
      await apply({ kind: "change", entry: f.entry("armed", { keys: [] }), basisRevision: 2 });
      assert.equal((await keyOf(key)).approved, false);
      await apply({ kind: "change", entry: f.entry("armed", { keys: [key] }), basisRevision: 3 });
      assert.deepEqual([(await keyOf(key)).approved, (await keyOf(key)).armed], [true, false]);
      await store.rearmKeys("armed", f.t0, [f.audit("keys.rearmed", "armed")]);
      assert.equal((await keyOf(key)).armed, true);
      await assert.rejects(store.rearmKeys("nobody", f.t0, []), refused("identity-unknown"));
    });

    it("refuses a key that is listed for or issued to another identity with key-in-use", async () => {
      const key = f.newKey();
      await apply({ kind: "add", entry: f.entry("first", { keys: [key] }) });
      await assert.rejects(apply({ kind: "add", entry: f.entry("second", { keys: [key] }) }), refused("key-in-use"));
      const leaf = await f.enrolled(store, "holder");
      await assert.rejects(
        apply({ kind: "add", entry: f.entry("second", { keys: [leaf.key] }) }),
        refused("key-in-use"),
      );
      assert.equal(await store.findIdentity("second"), null);
    });

    it("moves a key that was never issued for from one identity to another, in one step", async () => {
      const key = f.newKey();
      await apply({ kind: "add", entry: f.entry("wrong", { keys: [key] }) });
      await apply(
        { kind: "add", entry: f.entry("right", { keys: [key] }) },
        { kind: "change", entry: f.entry("wrong"), basisRevision: 1 },
      );
      const moved = await keyOf(key);
      assert.deepEqual([moved.identity, moved.approved, moved.armed], ["right", true, true]);
    });

    it("refuses to approve a blocked key, but lets an entry that lists one change", async () => {
      const key = f.newKey();
      await apply({ kind: "add", entry: f.entry("blocked", { keys: [key] }) });
      const block = { records: [], basis: new Map(), endLineages: [], crls: [] };
      await store.revoke({ ...block, blockKeys: [key], audit: [f.audit("key.blocked", key, f.t0 + 3)] });
      assert.deepEqual([(await keyOf(key)).blockedAt, (await keyOf(key)).armed], [f.t0 + 3, false]);
      await store.rearmKeys("blocked", f.t0, []);
      assert.equal((await keyOf(key)).armed, false, "a blocked key is never armed");
      await apply({ kind: "change", entry: f.entry("blocked", { keys: [key], labels: { a: "" } }), basisRevision: 1 });
      await apply({ kind: "change", entry: f.entry("blocked"), basisRevision: 2 });
      await assert.rejects(
        apply({ kind: "change", entry: f.entry("blocked", { keys: [key] }), basisRevision: 3 }),
        refused("key-blocked"),
      );
    });

    it("suspends and resumes, and changes nothing when it is so already", async () => {
      await apply({ kind: "add", entry: f.entry("switched") });
      await store.setIdentityState("switched", "suspended", f.t0 + 5, [f.audit("identity.suspended")]);
      const suspended = await store.findIdentity("switched");
      assert.deepEqual([suspended?.state, suspended?.revision, suspended?.updatedAt], ["suspended", 2, f.t0 + 5]);
      await store.setIdentityState("switched", "suspended", f.t0 + 6, [f.audit("identity.suspended")]);
      assert.equal((await store.findIdentity("switched"))?.revision, 2);
      await assert.rejects(store.setIdentityState("nobody", "active", f.t0, []), refused("identity-unknown"));
    });

    it("lists by id with its filters, without the service and the removed", async () => {
      await apply({ kind: "add", entry: f.entry("zz-1", { labels: { site: "lab", rack: "1" } }) });
      await apply({ kind: "add", entry: f.entry("zz-2", { labels: { site: "roof" } }) });
      await apply({ kind: "add", entry: f.entry("zz-3", { profile: "agent" }) });
      await apply({ kind: "remove", id: "zz-3", basisRevision: 1 });
      await store.setIdentityState("zz-2", "suspended", f.t0, []);
      const list = async (filter: object) =>
        (await store.listIdentities({ limit: 1000, now: f.t0, ...filter })).items.map((row) => row.id);
      assert.deepEqual(await list({ q: "zz-" }), ["zz-1", "zz-2"]);
      assert.deepEqual(await list({ q: "zz-", state: "removed" }), ["zz-3"]);
      assert.deepEqual(await list({ q: "ZZ-2.claw" }), ["zz-2"], "by one of its names");
      assert.deepEqual(await list({ q: "zz_1" }), [], "an underscore is no wildcard");
      assert.deepEqual(await list({ label: "site=lab" }), ["zz-1"]);
      assert.deepEqual(await list({ label: "rack" }), ["zz-1"]);
      assert.deepEqual(await list({ label: "rack=2" }), []);
      assert.deepEqual(await list({ q: "zz-", state: "suspended" }), ["zz-2"]);
      assert.deepEqual(await list({ profile: "service" }), [f.serviceId]);
      assert.ok(!(await list({})).includes(f.serviceId));
      await store.recordIssuance(f.enrollment(f.leaf("zz-1")));
      assert.deepEqual(await list({ expiresBefore: f.t0 + 31 * f.day, q: "zz-" }), ["zz-1"]);
      assert.deepEqual(await list({ expiresBefore: f.t0 + 29 * f.day, q: "zz-" }), []);
    });

    it("finds the other active identities that hold one of the names", async () => {
      const names = (dns: string[], ip: string[] = []) => ({ names: { dns, ip, uri: [], email: [] } });
      await apply({ kind: "add", entry: f.entry("share-1", names(["shared.claw", "own.claw"], ["10.9.9.9"])) });
      await apply({ kind: "add", entry: f.entry("share-2", names(["shared.claw"])) });
      await apply({ kind: "add", entry: f.entry("share-3", names(["10.9.9.9"])) });
      await apply({ kind: "add", entry: f.entry("share-4", names(["own.claw"])) });
      await store.setIdentityState("share-4", "suspended", f.t0, []);
      const asked = { dns: ["shared.claw", "own.claw"], ip: ["10.9.9.9"], uri: [], email: [] };
      assert.deepEqual(await store.findNameSharers("share-1", asked), [{ identity: "share-2", name: "shared.claw" }]);
    });
  });
}
