import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { AgentReport } from "@newleaf/shared/api";
import { verifyAuditChain } from "../../../../../server/audit-chain.ts";
import type { AuditEntry } from "../../../../../server/store/audit.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import type { OpenStore } from "./suite.ts";

export function recordContract(open: OpenStore): void {
  describe("audit log and reports", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
    });
    after(() => store[Symbol.asyncDispose]());

    it("gives every entry back as it was, in a chain that verifies", async () => {
      const full: AuditEntry = {
        at: f.t0 + 1,
        actorKind: "operator",
        actor: "ann@operators",
        action: "token.created",
        target: "tø\u0000ken \uD83C\uDF43",
        requestId: "r-1",
        address: "2001:db8::1",
        detail: { b: [1, { z: null, a: -0 }], a: "x", "1": 1e21, nested: { deep: "\uD800" } },
      };
      await store.recordAudit([full, f.audit("second")]);
      const rows = await store.readAuditChain(0, 100);
      const {
        seq,
        previousHash: _previous,
        hash: _hash,
        ...back
      } = rows.find((row) => row.action === "token.created") ?? assert.fail();
      assert.deepEqual(
        JSON.stringify(back.detail, Object.keys(back.detail ?? {}).toSorted()),
        JSON.stringify(full.detail, Object.keys(full.detail ?? {}).toSorted()),
      );
      assert.deepEqual({ ...back, detail: 0 }, { ...full, detail: 0 });
      assert.ok(!("target" in (rows.find((row) => row.action === "second") ?? {})));
      const verdict = verifyAuditChain(rows);
      assert.deepEqual([verdict.ok, verdict.ok && verdict.lastSeq], [true, rows.length]);
      assert.deepEqual(verifyAuditChain(await store.readAuditChain(seq, 100), rows[seq - 1]?.hash).ok, true);
    });

    it("keeps the chain true for text that UTF-8 cannot hold", async () => {
      await store.recordAudit([{ ...f.audit("odd"), actor: "lone \uD800 surrogate", target: "\uDC00" }]);
      assert.equal(verifyAuditChain(await store.readAuditChain(0, 1000)).ok, true);
    });

    it("keeps one chain under concurrent writes, and leaves no trace of what was refused", async () => {
      const writes = Array.from({ length: 50 }, (_, index) =>
        index % 5 === 0
          ? store.lockLineage(f.newId(), {}, f.t0, [f.audit("never")])
          : store.recordAudit([f.audit(`busy-${index}`)]),
      );
      const outcomes = await Promise.allSettled(writes);
      assert.equal(outcomes.filter((outcome) => outcome.status === "rejected").length, 10);
      const rows = await store.readAuditChain(0, 1000);
      assert.equal(rows.filter((row) => row.action.startsWith("busy-")).length, 40);
      assert.equal(rows.filter((row) => row.action === "never").length, 0);
      assert.equal(verifyAuditChain(rows).ok, true);
    });

    it("keeps the chain whole when a write fails half-way between two others", async () => {
      const half = [f.audit("half-1"), { ...f.audit("half-2"), at: 0.5 }];
      const outcomes = await Promise.allSettled([
        store.recordAudit([f.audit("before")]),
        store.recordAudit(half),
        store.recordAudit([f.audit("after")]),
      ]);
      assert.deepEqual(
        outcomes.map((outcome) => outcome.status),
        ["fulfilled", "rejected", "fulfilled"],
      );
      const rows = await store.readAuditChain(0, 1000);
      assert.deepEqual(
        rows.slice(-2).map((row) => row.action),
        ["before", "after"],
      );
      assert.equal(verifyAuditChain(rows).ok, true);
    });

    it("lists newest first by actor, action, target and time", async () => {
      const by = (actor: string, action: string, target: string, at: number) => ({
        ...f.audit(action, target, at),
        actor,
      });
      await store.recordAudit([by("x", "a.b", "t1", 1), by("x", "c.d", "t2", 2), by("y", "a.b", "t1", 3)]);
      const list = async (filter: object) =>
        (await store.listAudit({ limit: 10, ...filter })).items.map((row) => row.at);
      assert.deepEqual(await list({ actor: "x" }), [2, 1]);
      assert.deepEqual(await list({ action: "a.b" }), [3, 1]);
      assert.deepEqual(await list({ target: "t1", actor: "y" }), [3]);
      assert.deepEqual(await list({ since: 2, until: 3 }), [2]);
      const page = await store.listAudit({ limit: 1, action: "a.b" });
      const next = await store.listAudit({ limit: 1, action: "a.b", cursor: page.nextCursor ?? assert.fail() });
      assert.deepEqual([page.items[0]?.at, next.items[0]?.at, next.nextCursor], [3, 1, null]);
    });

    it("refuses an entry that is no plain data and still takes those of the same moment", async () => {
      const broken = { ...f.audit("broken"), detail: { run: () => 1 } };
      const [bad, good] = await Promise.allSettled([
        store.recordAudit([broken]),
        store.recordAudit([f.audit("beside")]),
      ]);
      assert.equal(bad?.status, "rejected");
      assert.equal(good?.status, "fulfilled");
    });

    const report = (served: string | null, clock = f.t0): AgentReport => ({
      certificates: [
        {
          name: "gateway",
          installed: served,
          served: served === null ? [] : [{ address: "127.0.0.1:9443", serverName: "g", fingerprint: served, at: "" }],
        },
      ],
      bundleVersion: 1,
      crls: { [f.issuerId]: 1 },
      clock: new Date(clock).toISOString(),
    });

    it("keeps the latest report, and tells when something served is not what is in force", async () => {
      const leaf = await f.enrolled(store, "reporter");
      const standing = async () => (await store.listStandings(100)).find((row) => row.identity === "reporter");
      assert.equal(await standing(), undefined);
      await store.recordSeen("reporter", f.t0 + 1);
      assert.deepEqual(await standing(), {
        identity: "reporter",
        lastSeenAt: f.t0 + 1,
        clockSkew: null,
        mismatch: false,
      });
      const row = {
        identity: "reporter",
        at: f.t0 + 2,
        serial: leaf.serial,
        clockSkew: -7,
        report: report(leaf.fingerprint),
      };
      await store.recordReport(row);
      assert.deepEqual(await store.findReport("reporter"), row);
      assert.deepEqual(await standing(), {
        identity: "reporter",
        lastSeenAt: f.t0 + 2,
        clockSkew: -7,
        mismatch: false,
      });
      assert.equal((await store.findIdentity("reporter"))?.lastSeenAt, f.t0 + 2);
      const renewed = f.renewal(leaf);
      await store.recordIssuance(renewed);
      assert.equal((await standing())?.mismatch, true, "a newer leaf is in force and not served");
      await store.recordReport({ ...row, report: report(renewed.certificate.fingerprint) });
      assert.equal((await standing())?.mismatch, false);
      await store.recordReport({ ...row, report: report(null) });
      assert.equal((await standing())?.mismatch, false, "nothing served is no mismatch");
      assert.equal(await store.findReport("nobody"), null);
    });

    it("lists the longest silent first", async () => {
      await f.addIdentity(store, "silent-1");
      await f.addIdentity(store, "silent-2");
      await store.recordSeen("silent-1", 20);
      await store.recordSeen("silent-2", 10);
      assert.deepEqual(
        (await store.listStandings(2)).map((row) => row.identity),
        ["silent-2", "silent-1"],
      );
    });

    it("ping commits", async () => {
      await store.ping();
    });
  });
}
