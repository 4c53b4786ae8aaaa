import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { NewCertificate } from "../../../../../server/store/certificates.ts";
import type { RetentionCounts } from "../../../../../server/store/retention.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import type { OpenStore } from "./suite.ts";

/** Everything the tests issue is over by then, and 400 days more. */
const horizon = f.t0 + 100 * f.day;
const muchLater = horizon + 400 * f.day;

export function retentionContract(open: OpenStore): void {
  describe("retention", () => {
    let store: Store;
    beforeEach(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    afterEach(() => store[Symbol.asyncDispose]());

    const forget = async (before = horizon, limit = 1000): Promise<RetentionCounts> =>
      (await store.forgetExpired({ before, after: null, limit })).counts;
    const isKept = async (certificate: NewCertificate): Promise<boolean> =>
      (await store.findCertificate(certificate.serial)) !== null;

    it("removes superseded generations with their keys, keeps the newest leaf of an identity that exists", async () => {
      const first = await f.enrolled(store, "gateway-1");
      const renewed = f.renewal(first);
      await store.recordIssuance(renewed);
      await f.promote(store, renewed.certificate.serial);
      assert.deepEqual(await forget(), { ...none, certificates: 1, keys: 1 });
      assert.deepEqual([await isKept(first), await isKept(renewed.certificate)], [false, true]);
      assert.equal(await store.findKey(first.key), null);
      assert.notEqual(await store.findKey(renewed.certificate.key), null);
      assert.notEqual(await store.findLineage(first.lineage ?? ""), null, "its lineage goes on");
      assert.deepEqual(await forget(), none, "and again: nothing");
    });

    it("removes an ended lineage once it is empty; everything of a removed identity", async () => {
      const old = await f.enrolled(store, "gateway-1");
      const fresh = f.leaf("gateway-1");
      await store.recordIssuance(f.enrollment(fresh));
      await f.promote(store, fresh.serial);
      const gone = await f.enrolled(store, "gateway-2");
      await f.revoke(store, gone, "cessationOfOperation", null, [f.crl(2, f.t0 + f.minute)]);
      await store.changeInventory([{ kind: "remove", id: "gateway-2", basisRevision: 1 }], f.t0 + f.minute, []);
      await store.recordCrl(f.crl(3, f.t0 + 50 * f.day), []);
      assert.deepEqual(await forget(), { ...none, certificates: 2, lineages: 2, keys: 2 });
      assert.equal(await store.findLineage(old.lineage ?? ""), null);
      assert.equal(await isKept(gone), false);
      assert.deepEqual(await store.listRevocations(f.issuerId), []);
      assert.equal((await store.findIdentity("gateway-2"))?.state, "removed", "that it was here stays known");
    });

    it("keeps an empty lineage that was never ended: of whom it was is known, how it went on is not", async () => {
      const old = await f.enrolled(store, "gateway-1");
      await store.recordIssuance(f.enrollment(f.leaf("gateway-1")));
      assert.deepEqual(await forget(), { ...none, certificates: 1, keys: 1 });
      assert.equal((await store.findLineage(old.lineage ?? ""))?.state, "active");
    });

    it("keeps what a CRL must still list, and the CRL says the same before and after", async () => {
      const first = await f.enrolled(store, "gateway-1");
      const renewed = f.renewal(first);
      await store.recordIssuance(renewed);
      await f.revoke(store, first, "keyCompromise", null, [f.crl(2, f.t0 + f.minute)]);
      const before = await store.listRevocations(f.issuerId);
      assert.equal(before.length, 1);
      assert.deepEqual(await forget(), none, "no CRL was made after its end");
      assert.deepEqual(await store.listRevocations(f.issuerId), before);
      await store.recordCrl(f.crl(3, f.t0 + 31 * f.day), []);
      assert.deepEqual(await store.listRevocations(f.issuerId), []);
      assert.equal((await forget()).certificates, 1);
    });

    it("keeps what belongs to a locked lineage, blocked and approved keys, and what has not expired for long", async () => {
      const locked = await f.enrolled(store, "gateway-1");
      const next = f.renewal(locked);
      await store.recordIssuance(next);
      await store.lockLineage(locked.lineage ?? "", {}, f.t0, []);
      const approved = f.newKey();
      const blocked = f.newKey();
      for (const [id, key] of [
        ["gateway-2", approved],
        ["gateway-3", blocked],
      ] as const) {
        await f.addIdentity(store, id, id === "gateway-2" ? { keys: [approved] } : {});
        await store.recordIssuance(f.enrollment(f.leaf(id, { key })));
        await store.recordIssuance(f.enrollment(f.leaf(id)));
      }
      const act = { records: [], basis: new Map(), endLineages: [], crls: [] };
      await store.revoke({ ...act, blockKeys: [blocked], audit: [f.audit("key.blocked", blocked)] });
      const counts = await forget();
      assert.deepEqual([counts.certificates, counts.keys], [2, 0]);
      assert.equal(await isKept(locked), true);
      assert.equal((await store.findKey(approved))?.identity, "gateway-2");
      assert.equal(await store.isKeyBlocked(blocked), true);
      assert.equal((await store.findKey(blocked))?.identity, "gateway-3");
      await store.releaseLineage(locked.lineage ?? "", f.t0, []);
      assert.equal((await forget(f.t0 + 29 * f.day)).certificates, 0, "its end is later");
    });

    it("removes tokens, requests and grants that ended before", async () => {
      await f.addIdentity(store, "gateway-1");
      const token = (expiresAt: number) => ({
        id: f.newId(),
        secretHash: f.newId(),
        identity: "gateway-1",
        createdBy: f.adminId,
        createdAt: f.t0,
        expiresAt,
        spentAt: null,
        spentOn: null,
        revokedAt: null,
      });
      const [over, open] = [token(horizon - 1), token(horizon)];
      for (const row of [over, open]) await store.createToken(row, 1, []);
      const limits = { maxOpen: 10, maxOpenPerAddress: 10 };
      await store.openRequest({ ...f.request({ expiresAt: horizon - 1 }) }, limits, []);
      const grant = { id: f.newId(), identity: "gateway-1", createdBy: f.adminId, createdAt: f.t0, spentAt: null };
      await store.createGrant({ ...grant, expiresAt: horizon - 1 }, 1, []);
      assert.deepEqual(await forget(), { ...none, tokens: 1, requests: 1, grants: 1 });
      assert.equal(await store.findTokenById(over.id), null);
      assert.notEqual(await store.findTokenById(open.id), null);
    });

    it("keeps the counts of certificates right, walks in slices, and audits a run once", async () => {
      for (let index = 0; index < 5; index++) {
        const first = await f.enrolled(store, `gateway-${index}`);
        await store.recordIssuance(f.renewal(first));
      }
      const total = async () => (await store.countCertificates(f.t0)).reduce((sum, { count }) => sum + count, 0);
      assert.equal(await total(), 10);
      const looked = await store.findExpired({ before: horizon, after: null, limit: 4 });
      assert.deepEqual([looked.counts.certificates, looked.next !== null], [2, true]);
      let at: Parameters<Store["forgetExpired"]>[0]["after"] = null;
      let slices = 0;
      let removed = 0;
      do {
        const step = await store.forgetExpired({ before: horizon, after: at, limit: 4 });
        removed += step.counts.certificates;
        at = step.next;
        slices += 1;
      } while (at !== null);
      assert.deepEqual([removed, slices, await total()], [5, 3, 5]);
      assert.deepEqual((await store.retentionState()).open.certificates, 5);
      const counts = await store.endRetention(muchLater, f.audit("retention.applied", "store"));
      assert.deepEqual(counts, { ...none, certificates: 5, keys: 5 });
      assert.deepEqual(await store.retentionState(), { horizon, endedAt: muchLater, open: none });
      const { items } = await store.listAudit({ limit: 10, action: "retention.applied" });
      assert.deepEqual(
        items.map((row) => row.detail),
        [{ ...none, certificates: 5, keys: 5 }],
      );
    });

    it("never lets the horizon step back", async () => {
      await forget(horizon);
      await forget(horizon - 1);
      assert.equal((await store.retentionState()).horizon, horizon);
    });
  });
}

const none: RetentionCounts = { certificates: 0, lineages: 0, keys: 0, tokens: 0, requests: 0, grants: 0 };
