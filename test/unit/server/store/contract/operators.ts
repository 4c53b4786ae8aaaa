import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { AuditEntry } from "../../../../../server/store/audit.ts";
import type { ApprovalRow } from "../../../../../server/store/enrollments.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { type OpenStore, refused, stale } from "./suite.ts";

const limits = { maxOpen: 1000, maxOpenPerAddress: 1000 };
const noNames = { dns: [], ip: [], uri: [], email: [] };

export function operatorContract(open: OpenStore): void {
  describe("operators and approvals", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      await f.addIdentity(store, "gateway-1");
    });
    after(() => store[Symbol.asyncDispose]());

    const newToken = (identity: string) => ({
      id: f.newId(),
      secretHash: f.newId(),
      identity,
      createdBy: f.adminId,
      createdAt: f.t0,
      expiresAt: f.t0 + f.day,
      spentAt: null,
      spentOn: null,
      revokedAt: null,
    });
    const entry = (id: string) => f.entry(id, { profile: "operator", names: noNames });
    const yes = (by: string, changes: Partial<ApprovalRow> = {}): ApprovalRow => ({
      by,
      how: "approval",
      identity: "gateway-1",
      admission: null,
      at: f.t0,
      ...changes,
    });
    const byOperator = (actor: string): AuditEntry => ({
      ...f.audit("identity.changed"),
      actorKind: "operator",
      actor,
    });

    it("adds an operator together with the token, all or nothing", async () => {
      const token = newToken("alice@operators");
      const operator = { entry: entry("alice@operators"), role: "viewer", token } as const;
      await store.addOperator(operator, f.t0, [f.audit("operator.added", "alice@operators")]);
      const row = await store.findIdentity("alice@operators");
      assert.deepEqual([row?.profile, row?.role, row?.state], ["operator", "viewer", "active"]);
      assert.equal((await store.findToken(token.secretHash))?.identity, "alice@operators");
      const again = newToken("alice@operators");
      await assert.rejects(store.addOperator({ ...operator, token: again }, f.t0, []), refused("conflict"));
      assert.equal(await store.findToken(again.secretHash), null);
    });

    it("changes a role on a basis, and keeps the last admin who holds a certificate in date", async () => {
      const revision = (await store.findIdentity("alice@operators"))?.revision ?? 0;
      const change = { id: "alice@operators", role: "admin", basisRevision: revision } as const;
      await store.setRole(change, f.t0, [f.audit("operator.role-changed", change.id)]);
      assert.equal((await store.findIdentity(change.id))?.role, "admin");
      await assert.rejects(store.setRole(change, f.t0, []), stale);
      // Two admins, neither of whom can act: nobody else would be left.
      assert.equal(await store.hasOtherActingAdmin(f.adminId, f.t0), false);
      await assert.rejects(store.setIdentityState(f.adminId, "suspended", f.t0, []), refused("not-permitted"));
      const leaf = f.leaf(change.id, { profile: "operator" });
      const basis = { identity: { id: change.id, revision: revision + 1 }, issuerId: f.issuerId };
      await store.recordIssuance(f.enrollment(leaf, { basis }));
      assert.equal(await store.hasOtherActingAdmin(f.adminId, f.t0), true);
      assert.equal(await store.hasOtherActingAdmin(f.adminId, leaf.notAfter), false, "not in date any more");
      await store.setIdentityState(f.adminId, "suspended", f.t0, []);
      await assert.rejects(store.setIdentityState(change.id, "suspended", f.t0, []), refused("not-permitted"));
      await store.setIdentityState(f.adminId, "active", f.t0, []);
    });

    it("names the operator behind an approved key, and who armed it again; applying the list again changes nothing", async () => {
      const key = f.newKey();
      const approverIs = async (by: string | null) => assert.equal((await store.findKey(key))?.approvedBy, by);
      const change = async (by: string) => {
        const { revision = 0 } = (await store.findIdentity("gateway-1")) ?? {};
        const step = { kind: "change", entry: f.entry("gateway-1", { keys: [key] }), basisRevision: revision } as const;
        await store.changeInventory([step], f.t0, [byOperator(by)]);
      };
      await change("alice@operators");
      await approverIs("alice@operators");
      await change(f.adminId);
      await approverIs("alice@operators");
      await store.rearmKeys("gateway-1", f.t0, [byOperator(f.adminId)]);
      await approverIs(f.adminId);
      await store.rearmKeys("gateway-1", f.t0, [f.audit("identity.keys-rearmed")]);
      await approverIs(null);
    });

    it("keeps one yes of each operator and one admission, each on the basis of those that were known", async () => {
      const request = await store.openRequest(f.request(), limits, []);
      const known = () => store.listApprovals(request.id);
      const token = yes("alice@operators", { how: "token", admission: "t1" });
      await store.approveRequest(request.id, token, [], [f.audit("enrollment.first-approval", request.id)]);
      await assert.rejects(store.approveRequest(request.id, yes(f.adminId), [], []), stale);
      await store.approveRequest(request.id, yes(f.adminId), await known(), []);
      assert.deepEqual(await known(), [token, yes(f.adminId)]);
      const later = yes(f.adminId, { at: f.t0 + 1 });
      await store.approveRequest(request.id, later, await known(), []);
      const grant = yes("bob@operators", { how: "recovery-grant", admission: "g1" });
      await store.approveRequest(request.id, grant, await known(), []);
      assert.deepEqual(await known(), [later, grant]);
      await store.denyRequest(request.id, f.adminId, f.t0, []);
      await assert.rejects(store.approveRequest(request.id, later, await known(), []), stale);
      await store.openRequest(f.request({ createdAt: request.expiresAt }), limits, []);
      assert.deepEqual(await known(), [], "gone with the request");
    });

    it("keeps no yes by hand to an identity that was removed, and takes none", async () => {
      const request = await store.openRequest(f.request(), limits, []);
      await f.addIdentity(store, "leaving");
      const toLeaving = yes(f.adminId, { identity: "leaving" });
      await store.approveRequest(request.id, toLeaving, [], []);
      await store.changeInventory([{ kind: "remove", id: "leaving", basisRevision: 1 }], f.t0, []);
      assert.deepEqual(await store.listApprovals(request.id), []);
      await assert.rejects(store.approveRequest(request.id, toLeaving, [], []), stale);
    });

    it("issues only while the approvals and those who gave them are what they were", async () => {
      const leaf = f.leaf("gateway-1");
      const at = { createdAt: f.t0 + 10 * f.day };
      const request = await store.openRequest(f.request({ key: leaf.key, ...at }), limits, []);
      await store.approveRequest(request.id, yes("alice@operators"), [], []);
      const identity = await store.findIdentity("gateway-1");
      const alice = await store.findIdentity("alice@operators");
      const record = f.enrollment(leaf);
      const basis = {
        ...record.basis,
        identity: { id: "gateway-1", revision: identity?.revision ?? 0 },
        requestId: request.id,
        approvals: [yes("alice@operators")],
        approvers: [{ id: "alice@operators", revision: alice?.revision ?? 0 }],
      };
      const issue = (changes: object) => store.recordIssuance({ ...record, basis: { ...basis, ...changes } });
      await assert.rejects(issue({ approvals: [] }), stale);
      await assert.rejects(issue({ approvers: [{ id: "alice@operators", revision: 1 }] }), stale);
      assert.equal(await store.findCertificate(leaf.serial), null);
      await issue({});
      assert.equal((await store.findRequest(request.id, request.createdAt))?.serial, leaf.serial);
    });
  });
}
