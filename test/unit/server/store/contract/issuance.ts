import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { IssuanceRecord } from "../../../../../server/store/certificates.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore, refused, stale } from "./suite.ts";

export function issuanceContract(open: OpenStore): void {
  describe("recordIssuance", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    /** The issuance is refused as stale, and nothing of it can be seen. */
    const leavesNothing = async (record: IssuanceRecord) => {
      const before = await actions(store);
      await assert.rejects(store.recordIssuance(record), stale);
      assert.equal(await store.findCertificate(record.certificate.serial), null);
      assert.equal(await store.findKey(record.certificate.key), null);
      if (record.newLineage !== undefined) assert.equal(await store.findLineage(record.newLineage), null);
      assert.deepEqual(await actions(store), before);
    };

    it("keeps every field and gives the gate what it needs", async () => {
      await f.addIdentity(store, "fields");
      const certificate = f.leaf("fields");
      await store.recordIssuance(f.enrollment(certificate));
      const { der, ...row } = (await store.findCertificate(certificate.serial)) ?? assert.fail();
      const { der: expected, ...fields } = certificate;
      assert.deepEqual(Buffer.from(der), Buffer.from(expected));
      const unused = { firstUsedAt: null, supersededAt: null, revokedAt: null, reason: null };
      assert.deepEqual(row, { ...fields, ...unused });
      const { der: _, ...presented } = (await store.findPresented(certificate.serial)) ?? assert.fail();
      const standing = {
        issuerState: "active",
        identityState: "active",
        identityRevision: 1,
        lineageState: "active",
      };
      assert.deepEqual(presented, { ...row, ...standing });
      assert.equal(await store.findPresented(f.newSerial()), null);
      assert.deepEqual(await store.findKey(certificate.key), {
        fingerprint: certificate.key,
        identity: "fields",
        approved: false,
        armed: false,
        issued: true,
        blockedAt: null,
        approvedBy: null,
      });
    });

    it("takes the service's own leaf as current, without a lineage", async () => {
      const own = f.leaf(f.serviceId, { profile: "service", lineage: null, generation: 0, state: "current" });
      await store.recordIssuance({
        ...f.enrollment(own),
        basis: { identity: { id: f.serviceId, revision: 1 }, issuerId: f.issuerId },
      });
      const found = (await store.findPresented(own.serial)) ?? assert.fail();
      assert.equal(found.state, "current");
      assert.equal(found.firstUsedAt, own.issuedAt);
      assert.equal(found.lineageState, null);
    });

    it("refuses as stale when the identity's revision moved", async () => {
      await f.addIdentity(store, "moved");
      const record = f.enrollment(f.leaf("moved"));
      await store.setIdentityState("moved", "suspended", f.t0, []);
      await leavesNothing(record);
      await store.setIdentityState("moved", "active", f.t0, []);
      await leavesNothing(record);
    });

    it("refuses as stale when the issuer is not active", async () => {
      await f.addIdentity(store, "issuerless");
      const record = f.enrollment(f.leaf("issuerless", { issuerId: "another" }));
      await leavesNothing({ ...record, basis: { ...record.basis, issuerId: "another" } });
    });

    it("refuses as stale when the presented leaf's state moved", async () => {
      const parent = await f.enrolled(store, "presented");
      await f.revoke(store, parent, "certificateHold");
      await leavesNothing(f.renewal(parent));
    });

    it("refuses as stale when the lineage has a newer generation or is not active", async () => {
      const parent = await f.enrolled(store, "generations");
      await store.recordIssuance(f.renewal(parent));
      await leavesNothing(f.renewal(parent));
      const locked = await f.enrolled(store, "locked-lineage");
      await store.lockLineage(locked.lineage ?? "", {}, f.t0, []);
      await leavesNothing(f.renewal(locked));
    });

    it("refuses a second beginning as stale while a lineage of the identity is locked", async () => {
      const first = await f.enrolled(store, "locked-out");
      await store.lockLineage(first.lineage ?? "", {}, f.t0, []);
      await leavesNothing(f.enrollment(f.leaf("locked-out")));
    });

    it("refuses a serial that is taken as stale: the next decision draws another", async () => {
      const taken = await f.enrolled(store, "taken");
      const again = f.leaf("taken", { serial: taken.serial });
      await assert.rejects(store.recordIssuance(f.enrollment(again)), stale);
      assert.equal(await store.findLineage(again.lineage ?? ""), null, "the lineage begun before the clash is undone");
    });

    it("refuses a key of another identity with key-in-use, and one that is blocked with key-blocked", async () => {
      const owner = await f.enrolled(store, "owner");
      await f.addIdentity(store, "thief");
      await assert.rejects(
        store.recordIssuance(f.enrollment(f.leaf("thief", { key: owner.key }))),
        refused("key-in-use"),
      );
      const key = f.newKey();
      await store.revoke({
        records: [],
        basis: new Map(),
        blockKeys: [key],
        endLineages: [],
        crls: [],
        audit: [f.audit("key.blocked", key)],
      });
      assert.equal(await store.isKeyBlocked(key), true);
      await assert.rejects(store.recordIssuance(f.enrollment(f.leaf("thief", { key }))), refused("key-blocked"));
    });

    it("lets an identity use its own key again", async () => {
      const first = await f.enrolled(store, "keeper");
      await store.recordIssuance(f.renewal(first, { key: first.key }));
      assert.equal((await store.findLast("keeper"))?.key, first.key);
    });

    it("replaces a pending leaf: revoked as superseded and on the CRL in the same act", async () => {
      const parent = await f.enrolled(store, "replacer");
      const first = f.renewal(parent);
      await store.recordIssuance(first);
      const record = f.revocation(first.certificate, "superseded");
      const second = f.renewal(parent, { generation: 3 });
      const number = ((await store.latestCrl(f.issuerId))?.number ?? 0) + 1;
      await store.recordIssuance({ ...second, replaces: record, crls: [f.crl(number, f.t0)] });
      const replaced = (await store.findCertificate(first.certificate.serial)) ?? assert.fail();
      assert.deepEqual(
        [replaced.state, replaced.reason, replaced.revokedAt],
        ["replaced", "superseded", record.revokedAt],
      );
      assert.ok((await store.listRevocations(f.issuerId)).some((row) => row.serial === replaced.serial));
      assert.equal((await store.latestCrl(f.issuerId))?.number, number);
      assert.equal((await store.findSuccessor(parent.serial))?.serial, second.certificate.serial);

      const third = f.renewal(parent, { generation: 4 });
      await leavesNothing({ ...third, replaces: record });
    });

    it("spends the token, the grant, the request and the armed key, each once", async () => {
      const key = f.newKey();
      await f.addIdentity(store, "spender", { keys: [key] });
      const token = { id: f.newId(), secretHash: f.newId(), identity: "spender", createdBy: f.adminId };
      const open = { createdAt: f.t0, expiresAt: f.t0 + f.day, spentAt: null };
      await store.createToken({ ...token, ...open, spentOn: null, revokedAt: null }, 1, []);
      const grant = { id: f.newId(), identity: "spender", createdBy: f.adminId, ...open };
      await store.createGrant(grant, 1, []);
      const request = await store.openRequest(f.request({ key }), { maxOpen: 9, maxOpenPerAddress: 9 }, []);
      const spend = { tokenId: token.id, grantId: grant.id, requestId: request.id, armedKey: key };

      const certificate = f.leaf("spender", { key });
      const record = f.enrollment(certificate, { decidedBy: "somebody" });
      await store.recordIssuance({ ...record, basis: { ...record.basis, ...spend } });
      const spent = await store.findToken(token.secretHash);
      assert.deepEqual([spent?.spentOn, spent?.spentAt], [certificate.serial, certificate.issuedAt]);
      assert.equal(await store.findOpenGrant("spender", f.t0), null);
      assert.equal((await store.findKey(key))?.armed, false);
      const issued = await store.findRequest(request.id, f.t0);
      assert.deepEqual(
        [issued?.state, issued?.serial, issued?.identity, issued?.decidedBy, issued?.decidedAt],
        ["issued", certificate.serial, "spender", "somebody", certificate.issuedAt],
      );

      for (const [name, id] of Object.entries(spend)) {
        const again = f.enrollment(f.leaf("spender"));
        await leavesNothing({ ...again, basis: { ...again.basis, [name]: id } });
      }
    });

    it("refuses as stale what expired, was revoked or belongs to another identity", async () => {
      await f.addIdentity(store, "late");
      await f.addIdentity(store, "other");
      const made = { createdBy: f.adminId, createdAt: f.t0, spentAt: null, spentOn: null, revokedAt: null };
      const token = async (identity: string, expiresAt: number) => {
        const id = f.newId();
        await store.createToken({ id, secretHash: f.newId(), identity, expiresAt, ...made }, 1, []);
        return id;
      };
      const revoked = await token("late", f.t0 + f.day);
      await store.revokeToken(revoked, f.t0, []);
      for (const tokenId of [revoked, await token("late", f.t0), await token("other", f.t0 + f.day), f.newId()]) {
        const record = f.enrollment(f.leaf("late"));
        await leavesNothing({ ...record, basis: { ...record.basis, tokenId } });
      }
      const unapproved = f.enrollment(f.leaf("late"));
      await leavesNothing({ ...unapproved, basis: { ...unapproved.basis, armedKey: unapproved.certificate.key } });
    });

    it("lets only one of many that decided on the same basis through", async () => {
      const parent = await f.enrolled(store, "contended");
      const records = Array.from({ length: 20 }, () => f.renewal(parent));
      const outcomes = await Promise.allSettled(records.map((record) => store.recordIssuance(record)));
      assert.deepEqual(
        outcomes.map((outcome) => outcome.status === "fulfilled"),
        records.map((_, index) => index === 0),
        "in the order they came",
      );
      assert.equal((await store.listLineageCertificates(parent.lineage ?? "")).length, 2);
    });
  });
}
