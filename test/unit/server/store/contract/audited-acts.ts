import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore } from "./suite.ts";

/** Acts whose rows no other part of the contract looks at: each is in the log, in the order it was done. */
export function auditedActsContract(open: OpenStore): void {
  describe("acts and their audit rows", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      await f.addIdentity(store, "gateway-1");
    });
    after(() => store[Symbol.asyncDispose]());

    const at = f.t0 + f.minute;
    const told = async (work: () => Promise<unknown>): Promise<readonly string[]> => {
      const earlier = (await actions(store)).length;
      await work();
      return (await actions(store)).slice(earlier);
    };

    it("of operators and approvals", async () => {
      const entry = f.entry("ann@operators", { profile: "operator" });
      const add = () =>
        store.addOperator({ entry, role: "viewer", token: null }, at, [f.audit("operator.added", entry.id)]);
      assert.deepEqual(await told(add), ["operator.added"]);
      const change = { id: entry.id, role: "approver", basisRevision: 1 } as const;
      assert.deepEqual(await told(() => store.setRole(change, at, [f.audit("operator.role-changed", entry.id)])), [
        "operator.role-changed",
      ]);
      const limits = { maxOpen: 10, maxOpenPerAddress: 10 };
      const { id } = await store.openRequest(f.request(), limits, [f.audit("enrollment.requested")]);
      const yes = { by: entry.id, how: "approval", identity: "gateway-1", admission: null, at } as const;
      assert.deepEqual(
        await told(() => store.approveRequest(id, yes, [], [f.audit("enrollment.first-approval", id)])),
        ["enrollment.first-approval"],
      );
    });

    it("of tokens and CRLs", async () => {
      const token = {
        id: f.newId(),
        secretHash: f.newId(),
        identity: "gateway-1",
        createdBy: f.adminId,
        createdAt: at,
        expiresAt: at + f.day,
        spentAt: null,
        spentOn: null,
        revokedAt: null,
      };
      await store.createToken(token, 1, [f.audit("token.created")]);
      const revoke = () => store.revokeToken(token.id, at, [f.audit("token.revoked", token.id)]);
      assert.deepEqual(await told(revoke), ["token.revoked"]);
      assert.deepEqual(await told(revoke), [], "it was worthless already: nothing was done");
      assert.deepEqual(await told(() => store.recordCrl(f.crl(2, at), [f.audit("crl.published")])), ["crl.published"]);
      const imported = { crl: f.crl(9, at, f.rootId), basisNext: 2, records: [], audit: [f.audit("crl.imported")] };
      assert.deepEqual(await told(() => store.importCrl(imported)), ["crl.imported"]);
    });

    it("of pauses", async () => {
      const pause = {
        subject: "leaf 4a",
        identity: "gateway-1",
        serial: "4a",
        key: null,
        code: "identity-suspended",
        reason: "suspended",
        basis: "1",
        since: at,
        until: at + f.day,
        refusals: 30,
        address: "192.0.2.1",
      };
      assert.deepEqual(await told(() => store.recordPause(pause, [f.audit("client.paused")])), ["client.paused"]);
      assert.deepEqual(await told(() => store.liftPauses("gateway-1", at, [f.audit("client.resumed")])), [
        "client.resumed",
      ]);
    });

    it("of a restore and what it could not vouch for", async () => {
      const sight = (certificate: ReturnType<typeof f.leaf>) => ({ ...certificate, address: "192.0.2.1" });
      const adopted = f.leaf("gateway-1");
      const refused = f.leaf("gateway-1");
      for (const leaf of [adopted, refused]) {
        const note = () => store.noteUnvouched(sight(leaf), at, 10, [f.audit("certificate.unvouched", leaf.serial)]);
        assert.deepEqual(await told(note), ["certificate.unvouched"]);
      }
      assert.deepEqual(await told(() => store.adoptUnvouched(f.enrollment(adopted), f.adminId)), [
        "certificate.issued",
      ]);
      const act = {
        records: [f.revocation(refused, "unspecified")],
        basis: new Map([[refused.serial, null]]),
        blockKeys: [],
        endLineages: [],
        crls: [],
        audit: [f.audit("certificate.revoked", refused.serial)],
      };
      assert.deepEqual(await told(() => store.revokeUnvouched(refused.serial, act, f.adminId, at)), [
        "certificate.revoked",
      ]);
      const restore = {
        at,
        // An incomplete one leaves the journal, which only a store without one can.
        complete: true,
        revocations: [],
        blockKeys: [],
        crls: [],
        crlFloors: [],
        bundleVersion: 2,
        detail: {},
        audit: f.audit("store.restored"),
      };
      assert.deepEqual(await told(() => store.recordRestore(restore)), ["store.restored"]);
    });

    it("of an issuer revoked as a whole, once", async () => {
      const revocation = {
        issuerId: f.issuerId,
        reason: "cACompromise",
        at,
        audit: [f.audit("issuer.revoked")],
      } as const;
      assert.deepEqual(await told(() => store.revokeIssuer(revocation)), ["issuer.revoked"]);
      assert.deepEqual(await told(() => store.revokeIssuer(revocation)), []);
    });
  });
}
