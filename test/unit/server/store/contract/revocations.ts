import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { type OpenStore, refused, stale } from "./suite.ts";

export function revocationContract(open: OpenStore): void {
  describe("revocations and CRLs", () => {
    let store: Store;
    let number = 1;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    const nextCrl = (thisUpdate = f.t0 + f.minute) => f.crl(++number, thisUpdate);
    const listed = async () => (await store.listRevocations(f.issuerId)).map((row) => row.serial);

    it("found refuses a second time with conflict, and keeps what the first wrote", async () => {
      await assert.rejects(store.found(f.foundation()), refused("conflict"));
      const issuers = await store.listIssuers();
      assert.deepEqual(
        issuers.map((row) => [row.id, row.kind, row.state, row.twin === null]),
        [
          [f.rootId, "root", "active", true],
          [f.issuerId, "intermediate", "active", false],
        ],
      );
      const bundle = (await store.currentBundle()) ?? assert.fail();
      assert.deepEqual([bundle.version, bundle.roots, bundle.intermediates], [1, [f.rootId], [f.issuerId]]);
      assert.equal(bundle.crossCertificates[0]?.length, 9);
      assert.equal((await store.findIdentity(f.adminId))?.role, "admin");
    });

    it("a revocation shows on the leaf, on its issuer's list, and names the issuer until a CRL carries it", async () => {
      const leaf = await f.enrolled(store, "revoked-1");
      await f.revoke(store, leaf, "keyCompromise");
      const row = await store.findCertificate(leaf.serial);
      assert.deepEqual([row?.state, row?.reason, row?.revokedAt], ["revoked", "keyCompromise", f.t0 + f.minute]);
      assert.ok((await listed()).includes(leaf.serial));
      assert.deepEqual(await store.listStaleCrlIssuers(), [f.issuerId]);
      await store.recordCrl(nextCrl(f.t0 + f.minute), []);
      assert.deepEqual(await store.listStaleCrlIssuers(), [f.issuerId], "a CRL of that very moment may have missed it");
      await store.recordCrl(nextCrl(f.t0 + f.minute + 1), []);
      assert.deepEqual(await store.listStaleCrlIssuers(), []);
    });

    it("a revocation dated by a clock that was ahead asks for one CRL more, not for ever", async () => {
      const leaf = await f.enrolled(store, "ahead");
      await store.revoke({
        records: [f.revocation(leaf, "superseded", f.t0 + 400 * f.day)],
        basis: new Map([[leaf.serial, null]]),
        blockKeys: [],
        endLineages: [],
        crls: [],
        audit: [f.audit("certificate.revoked")],
      });
      await store.recordCrl(nextCrl(f.t0 + 2 * f.minute), []);
      await store.recordCrl(nextCrl(f.t0 + 3 * f.minute), []);
      assert.deepEqual(await store.listStaleCrlIssuers(), []);
    });

    it("a CRL of the same act carries the revocation", async () => {
      const leaf = await f.enrolled(store, "carried");
      const crl = nextCrl();
      await f.revoke(store, leaf, "superseded", null, [crl]);
      assert.deepEqual(await store.listStaleCrlIssuers(), []);
      const { der, ...latest } = (await store.latestCrl(f.issuerId)) ?? assert.fail();
      const { der: expected, ...fields } = crl;
      assert.deepEqual(latest, fields);
      assert.deepEqual(Buffer.from(der), Buffer.from(expected));
    });

    it("a CRL number that does not follow is stale, and undoes the act it came with", async () => {
      const leaf = await f.enrolled(store, "misnumbered");
      for (const wrong of [number, number + 2, 1]) {
        await assert.rejects(store.recordCrl(f.crl(wrong, f.t0), []), stale);
        await assert.rejects(f.revoke(store, leaf, "superseded", null, [f.crl(wrong, f.t0)]), stale);
      }
      assert.equal((await store.findCertificate(leaf.serial))?.state, "current");
      assert.equal((await store.latestCrl(f.issuerId))?.number, number);
      assert.equal((await store.latestCrl(f.rootId))?.number, 1);
      assert.equal(await store.latestCrl("unknown"), null);
    });

    it("a reason that changed since the decision is stale", async () => {
      const leaf = await f.enrolled(store, "raced");
      await f.revoke(store, leaf, "superseded");
      await assert.rejects(f.revoke(store, leaf, "keyCompromise", null), stale);
      await f.revoke(store, leaf, "keyCompromise", "superseded");
      assert.equal((await store.findCertificate(leaf.serial))?.reason, "keyCompromise");
      await assert.rejects(f.revoke(store, leaf, "certificateHold", "keyCompromise"), refused("already-revoked"));
    });

    it("a superseded leaf that is revoked is both; a hold made final is no longer held", async () => {
      const first = await f.enrolled(store, "both");
      const second = f.renewal(first);
      await store.recordIssuance(second);
      await f.promote(store, second.certificate.serial);
      await f.revoke(store, first, "certificateHold");
      await f.revoke(store, first, "keyCompromise", "certificateHold");
      const row = await store.findCertificate(first.serial);
      assert.deepEqual([row?.state, row?.supersededAt], ["revoked", f.t0 + f.minute]);
      await assert.rejects(store.releaseHold({ serial: first.serial, at: f.t0, crls: [], audit: [] }), stale);
    });

    it("revokes all of an act or nothing, ends lineages and blocks keys with it", async () => {
      const [one, two] = [await f.enrolled(store, "act-1"), await f.enrolled(store, "act-2")];
      const act = {
        records: [f.revocation(one, "keyCompromise"), f.revocation(two, "keyCompromise")],
        blockKeys: [one.key, two.key],
        endLineages: [one.lineage ?? ""],
        crls: [],
        audit: [f.audit("certificate.revoked")],
      };
      const stalePart = new Map([
        [one.serial, null],
        [two.serial, "superseded" as const],
      ]);
      await assert.rejects(store.revoke({ ...act, basis: stalePart }), stale);
      assert.equal((await store.findCertificate(one.serial))?.state, "current");
      assert.equal(await store.isKeyBlocked(one.key), false);
      await store.revoke({ ...act, basis: new Map() });
      assert.equal(await store.isKeyBlocked(two.key), true);
      assert.notEqual((await store.findKey(two.key))?.blockedAt, null);
      assert.equal((await store.findLineage(one.lineage ?? ""))?.state, "ended");
      assert.equal((await store.findLineage(two.lineage ?? ""))?.state, "active");
    });

    it("lists by serial, and until one CRL after the leaf's end has carried it (RFC 5280 §3.3)", async () => {
      const end = f.t0 + 3 * f.day;
      const leaf = await f.enrolled(store, "shortlived", { notAfter: end });
      await f.revoke(store, leaf, "superseded");
      await store.recordCrl(nextCrl(end), []);
      assert.ok((await listed()).includes(leaf.serial), "the newest CRL is not past its end");
      await store.recordCrl(nextCrl(end + 1000), []);
      assert.ok(!(await listed()).includes(leaf.serial));
      const serials = await listed();
      assert.ok(serials.length > 3);
      assert.deepEqual(serials, serials.toSorted());
      assert.deepEqual(await store.listRevocations(f.rootId), []);
    });

    it("revokes what is no leaf: the certificate of an intermediate, on its root's list", async () => {
      const serial = f.newSerial();
      const record = {
        issuerId: f.rootId,
        serial,
        reason: "cACompromise",
        revokedAt: f.t0,
        notAfter: f.t0 + f.day,
      } as const;
      const act = { basis: new Map(), blockKeys: [], endLineages: [], crls: [] };
      await store.revoke({ ...act, records: [record], audit: [f.audit("issuer.revoked")] });
      assert.deepEqual(await store.listRevocations(f.rootId), [record]);
      assert.deepEqual(await store.listStaleCrlIssuers(), [f.rootId]);
    });
  });
}
