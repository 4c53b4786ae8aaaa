import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { type OpenStore, refused, stale } from "./suite.ts";

export function issuerRevocationContract(open: OpenStore): void {
  describe("revocation of issuers, and what tells that it took effect", () => {
    let store: Store;
    let number = 1;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    const now = f.t0 + f.minute;
    const unrevoked = async (limit = 100, from?: number) =>
      (await store.listUnrevoked({ issuerId: f.issuerId, now, limit, ...(from === undefined ? {} : { from }) })).map(
        ({ serial }) => serial,
      );

    it("lists what is in date and not finally revoked, what ends first first, in batches", async () => {
      const late = await f.enrolled(store, "late");
      const soon = await f.enrolled(store, "soon", { notAfter: f.t0 + f.day });
      const held = await f.enrolled(store, "held", { notAfter: f.t0 + 2 * f.day });
      await f.revoke(store, held, "certificateHold");
      const gone = await f.enrolled(store, "gone");
      await f.revoke(store, gone, "superseded");
      await f.enrolled(store, "expired", { notAfter: f.t0 });
      const followed = await f.enrolled(store, "followed", { notAfter: f.t0 + 3 * f.day });
      const next = f.renewal(followed, { notAfter: f.t0 + 4 * f.day });
      await store.recordIssuance(next);
      await f.promote(store, next.certificate.serial);
      const expected = [soon, held, followed, next.certificate, late].map(({ serial }) => serial);
      assert.deepEqual(await unrevoked(), expected);
      assert.equal(await store.countUnrevoked(f.issuerId, now), expected.length);
      assert.deepEqual(await unrevoked(2), expected.slice(0, 2));
      assert.deepEqual(await unrevoked(100, f.t0 + 2 * f.day), expected.slice(1), "from there on, held ones too");
      assert.deepEqual(await unrevoked(1, f.t0 + 31 * f.day), []);
      assert.equal(await store.countUnrevoked(f.rootId, now), 0);
    });

    it("knows the CRL that first listed a revocation as it is", async () => {
      const leaf = await f.enrolled(store, "listed");
      const listing = () => store.findListing(f.issuerId, leaf.serial);
      assert.equal(await listing(), null);
      await f.revoke(store, leaf, "certificateHold");
      assert.equal(await listing(), null, "no CRL yet");
      await store.recordCrl(f.crl(++number, now + 1), []);
      assert.equal(await listing(), number);
      const first = number;
      await store.recordCrl(f.crl(++number, now + 2), []);
      assert.equal(await listing(), first, "a later one changes nothing");
      await f.revoke(store, leaf, "keyCompromise", "certificateHold", [f.crl(++number, now + 3)]);
      assert.equal(await listing(), number, "another reason is another entry");
    });

    it("a backdated CRL settles what was revoked before it was made", async () => {
      const leaf = await f.enrolled(store, "backdated");
      await f.revoke(store, leaf, "superseded");
      const made = { ...f.crl(++number, f.t0), asOf: f.t0 + 2 * f.minute };
      await store.recordCrl(made, []);
      assert.deepEqual(await store.listStaleCrlIssuers(), []);
    });

    it("retires a revoked issuer once, and nothing is issued by it", async () => {
      const revocation = { issuerId: f.issuerId, reason: "cACompromise", at: now } as const;
      await store.revokeIssuer({ ...revocation, audit: [f.audit("issuer.revoked")] });
      await store.revokeIssuer({ ...revocation, reason: "superseded", at: now + 1, audit: [] });
      const row = (await store.listIssuers()).find(({ id }) => id === f.issuerId);
      assert.deepEqual([row?.state, row?.revokedAt, row?.revocationReason], ["retired", now, "cACompromise"]);
      await f.addIdentity(store, "too-late");
      await assert.rejects(store.recordIssuance(f.enrollment(f.leaf("too-late"))), stale);
      await assert.rejects(store.revokeIssuer({ ...revocation, issuerId: "nobody", audit: [] }), refused("not-found"));
    });

    it("an imported CRL may leap, lists what it brings, and is judged on fresh numbers", async () => {
      const serial = f.newSerial();
      const notAfter = f.t0 + f.day;
      const record = { issuerId: f.rootId, serial, reason: "cACompromise", revokedAt: now, notAfter } as const;
      const imported = { crl: f.crl(7, now, f.rootId), basisNext: 2, records: [record], audit: [] };
      await assert.rejects(store.importCrl({ ...imported, basisNext: 3 }), stale);
      await store.importCrl(imported);
      assert.equal((await store.latestCrl(f.rootId))?.number, 7);
      assert.equal(await store.findListing(f.rootId, serial), 7);
      assert.deepEqual(await store.listRevocations(f.rootId), [record]);
      const older = { ...imported, crl: f.crl(7, now + 1, f.rootId), basisNext: 8 };
      await assert.rejects(store.importCrl(older), refused("conflict"));
    });

    it("keeps the first use of a leaf and its last, and where from", async () => {
      await f.addIdentity(store, "used");
      const leaf = f.leaf("used");
      const lineage = leaf.lineage ?? "";
      // The intermediate of this suite issues nothing any more.
      const record = f.enrollment({ ...leaf, issuerId: f.rootId });
      await store.recordIssuance({ ...record, basis: { ...record.basis, issuerId: f.rootId } });
      assert.deepEqual(await store.listLeafUses(lineage), []);
      await store.promote({ serial: leaf.serial, at: now, address: "192.0.2.1", audit: [] });
      await store.recordSeen("used", now + 5, { serial: leaf.serial, address: "192.0.2.2" });
      await store.recordSeen("used", now + 1, { serial: leaf.serial, address: "192.0.2.3" });
      await store.recordSeen("used", now + 9);
      assert.deepEqual(await store.listLeafUses(lineage), [
        {
          serial: leaf.serial,
          generation: 1,
          firstAt: now,
          firstAddress: "192.0.2.1",
          lastAt: now + 5,
          lastAddress: "192.0.2.2",
        },
      ]);
    });

    it("refuses the leaves that an imported CRL lists, and a hold on it takes back nothing final", async () => {
      const issued = async (identity: string) => {
        await f.addIdentity(store, identity);
        const record = f.enrollment({ ...f.leaf(identity), issuerId: f.rootId });
        await store.recordIssuance({ ...record, basis: { ...record.basis, issuerId: f.rootId } });
        return record.certificate;
      };
      const [good, final] = [await issued("on-the-list"), await issued("finally-revoked")];
      await store.revoke({
        records: [{ ...f.revocation(final, "superseded"), issuerId: f.rootId }],
        basis: new Map([[final.serial, null]]),
        blockKeys: [],
        endLineages: [],
        crls: [f.crl(8, now + 2, f.rootId)],
        audit: [f.audit("certificate.revoked")],
      });
      const entry = ({ serial, notAfter }: typeof good) => ({ issuerId: f.rootId, serial, revokedAt: now, notAfter });
      const records = [
        { ...entry(good), reason: "keyCompromise" },
        { ...entry(final), reason: "certificateHold" },
      ] as const;
      await store.importCrl({ crl: f.crl(9, now + 3, f.rootId), basisNext: 9, records, audit: [] });
      const stateOf = async ({ serial }: typeof good) => {
        const row = await store.findCertificate(serial);
        return [row?.state, row?.reason];
      };
      assert.deepEqual(await stateOf(good), ["revoked", "keyCompromise"]);
      assert.deepEqual(await stateOf(final), ["revoked", "superseded"]);
      const listed = (await store.listRevocations(f.rootId)).map(({ serial, reason }) => [serial, reason] as const);
      assert.equal(new Map(listed).get(final.serial), "superseded");
    });

    it("gives the CRLs that were reported in parts, of those who still hold a leaf", async () => {
      const report = (crls: Record<string, number>) => ({ certificates: [], bundleVersion: 1, crls, clock: "" });
      for (const [identity, crl] of [
        ["soon", 3],
        ["late", 4],
        ["gone", 5],
      ] as const)
        await store.recordReport({
          identity,
          at: now,
          serial: "",
          clockSkew: 0,
          report: report({ [f.issuerId]: crl }),
        });
      const [first, ...none] = await store.listReportedCrls(0, 1, now);
      assert.deepEqual([first?.identity, first?.crls, none], ["soon", { [f.issuerId]: 3 }, []]);
      const rest = await store.listReportedCrls(first?.position ?? 0, 10, now);
      assert.deepEqual(
        rest.map(({ identity }) => identity),
        ["late"],
        "gone was revoked",
      );
      assert.deepEqual(await store.listReportedCrls(0, 10, f.t0 + 2 * f.day).then((rows) => rows.length), 1);
    });
  });
}
