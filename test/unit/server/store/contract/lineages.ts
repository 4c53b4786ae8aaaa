import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { NewCertificate } from "../../../../../server/store/certificates.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore, refused, stale } from "./suite.ts";

export function lineageContract(open: OpenStore): void {
  describe("lineages", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    const stateOf = async (certificate: NewCertificate) => (await store.findCertificate(certificate.serial))?.state;
    const lineageOf = async (certificate: NewCertificate) =>
      (await store.findLineage(certificate.lineage ?? ""))?.state;

    it("promote makes the pending leaf current and its parent superseded", async () => {
      const first = await f.enrolled(store, "promoted");
      const second = f.renewal(first);
      await store.recordIssuance(second);
      await f.promote(store, second.certificate.serial, f.t0 + 7);
      const [old, now] = await store.listLineageCertificates(first.lineage ?? "");
      assert.deepEqual([old?.state, old?.supersededAt], ["superseded", f.t0 + 7]);
      assert.deepEqual([now?.state, now?.firstUsedAt], ["current", f.t0 + 7]);
      assert.equal((await store.findLineage(first.lineage ?? ""))?.newestGeneration, 2);
    });

    it("promote twice changes and audits once", async () => {
      const leaf = await f.enrolled(store, "twice");
      const before = await actions(store);
      await f.promote(store, leaf.serial, f.t0 + f.day);
      assert.equal((await store.findCertificate(leaf.serial))?.firstUsedAt, f.t0 + f.minute);
      assert.deepEqual(await actions(store), before);
    });

    it("promote of another lineage's leaf ends the old lineage and supersedes all that was usable in it", async () => {
      const first = await f.enrolled(store, "followed");
      const pending = f.renewal(first);
      await store.recordIssuance(pending);
      const anew = f.leaf("followed");
      await store.recordIssuance(f.enrollment(anew));
      assert.equal(await lineageOf(first), "active", "until the new leaf is used");
      await f.promote(store, anew.serial);
      assert.equal(await stateOf(first), "superseded");
      assert.equal(await stateOf(pending.certificate), "superseded");
      assert.equal(await lineageOf(first), "ended");
      assert.equal(await lineageOf(anew), "active");
      assert.equal(await stateOf(anew), "current");
    });

    it("promote leaves a leaf of a locked or ended lineage as it is", async () => {
      for (const [id, end] of [
        ["stuck", (lineage: string) => store.lockLineage(lineage, {}, f.t0, [])],
        [
          "ended",
          (lineage: string) =>
            store.revoke({
              records: [],
              basis: new Map(),
              blockKeys: [],
              endLineages: [lineage],
              crls: [],
              audit: [f.audit("lineage.revoked")],
            }),
        ],
      ] as const) {
        const first = await f.enrolled(store, id);
        const second = f.renewal(first);
        await store.recordIssuance(second);
        await end(first.lineage ?? "");
        await f.promote(store, second.certificate.serial);
        assert.equal(await stateOf(second.certificate), "pending");
        assert.equal(await stateOf(first), "current");
      }
    });

    it("promote keeps a locked lineage locked and still supersedes its leaves", async () => {
      const first = await f.enrolled(store, "still-locked");
      const anew = f.leaf("still-locked");
      await store.recordIssuance(f.enrollment(anew));
      await store.lockLineage(first.lineage ?? "", {}, f.t0, []);
      await f.promote(store, anew.serial);
      assert.equal(await lineageOf(first), "locked");
      assert.equal(await stateOf(first), "superseded");
    });

    it("a held leaf that was followed comes back superseded, not current", async () => {
      const first = await f.enrolled(store, "held");
      const second = f.renewal(first);
      await store.recordIssuance(second);
      await f.revoke(store, first, "certificateHold");
      await f.promote(store, second.certificate.serial, f.t0 + 9);
      assert.equal(await stateOf(first), "held");
      await store.releaseHold({ serial: first.serial, at: f.t0 + 10, crls: [], audit: [] });
      const back = await store.findCertificate(first.serial);
      assert.deepEqual([back?.state, back?.supersededAt, back?.reason], ["superseded", f.t0 + 9, null]);
    });

    it("a released hold of an older generation cannot come back beside a newer current leaf", async () => {
      const first = await f.enrolled(store, "older");
      const second = f.renewal(first);
      await store.recordIssuance(second);
      await f.revoke(store, second.certificate, "certificateHold");
      const third = f.renewal(first, { generation: 3 });
      await store.recordIssuance(third);
      await f.promote(store, third.certificate.serial);
      await store.releaseHold({ serial: second.certificate.serial, at: f.t0, crls: [], audit: [] });
      assert.equal(await stateOf(second.certificate), "superseded");
      assert.equal(await stateOf(third.certificate), "current");
    });

    it("lockLineage locks once, keeps the first evidence and audits every conflict", async () => {
      const leaf = await f.enrolled(store, "conflict");
      const id = leaf.lineage ?? "";
      const before = (await actions(store)).length;
      assert.equal(await store.lockLineage(id, { presented: "a" }, f.t0 + 1, [f.audit("lineage.locked", id)]), true);
      assert.equal(await store.lockLineage(id, { presented: "b" }, f.t0 + 2, [f.audit("lineage.conflict", id)]), false);
      assert.deepEqual((await actions(store)).slice(before), ["lineage.locked", "lineage.conflict"]);
      const locked = await store.findLockedLineage("conflict");
      assert.deepEqual([locked?.id, locked?.lockedAt, locked?.evidence], [id, f.t0 + 1, { presented: "a" }]);
      await assert.rejects(store.lockLineage(f.newId(), {}, f.t0, []), refused("not-found"));
    });

    it("releaseLineage keeps the current generation in force and refuses what is not locked", async () => {
      const leaf = await f.enrolled(store, "released");
      const id = leaf.lineage ?? "";
      await assert.rejects(store.releaseLineage(id, f.t0, []), refused("conflict"));
      await assert.rejects(store.releaseLineage(f.newId(), f.t0, []), refused("not-found"));
      await store.lockLineage(id, { a: 1 }, f.t0, []);
      const locked = await store.countLockedLineages();
      await store.releaseLineage(id, f.t0, [f.audit("lineage.released", id)]);
      assert.equal(await store.countLockedLineages(), locked - 1);
      assert.equal(await lineageOf(leaf), "active");
      assert.equal(await stateOf(leaf), "current");
      assert.equal(await store.findLockedLineage("released"), null);
      await store.recordIssuance(f.renewal(leaf));
    });

    it("listLineages filters by identity and state, newest first", async () => {
      await f.enrolled(store, "listed");
      const second = f.leaf("listed");
      await store.recordIssuance(f.enrollment(second));
      await f.promote(store, second.serial);
      const all = await store.listLineages({ identity: "listed", limit: 10 });
      assert.deepEqual(
        all.items.map((row) => row.state),
        ["active", "ended"],
      );
      const active = await store.listLineages({ identity: "listed", state: "active", limit: 10 });
      assert.deepEqual(
        active.items.map((row) => row.id),
        [second.lineage],
      );
    });

    it("releaseHold gives back the state before the hold, and refuses what is not held as stale", async () => {
      const first = await f.enrolled(store, "back");
      const second = f.renewal(first);
      await store.recordIssuance(second);
      for (const [certificate, state] of [
        [first, "current"],
        [second.certificate, "pending"],
      ] as const) {
        await f.revoke(store, certificate, "certificateHold");
        assert.equal(await stateOf(certificate), "held");
        await store.releaseHold({ serial: certificate.serial, at: f.t0, crls: [], audit: [f.audit("hold.lifted")] });
        assert.equal(await stateOf(certificate), state);
        await assert.rejects(store.releaseHold({ serial: certificate.serial, at: f.t0, crls: [], audit: [] }), stale);
      }
      assert.ok(!(await store.listRevocations(f.issuerId)).some((row) => row.serial === first.serial));
    });
  });
}
