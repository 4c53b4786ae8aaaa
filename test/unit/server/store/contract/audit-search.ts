import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { AppError } from "@newleaf/shared/problems";
import type { AuditEntry, AuditFilter } from "../../../../../server/store/audit.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import type { OpenStore } from "./suite.ts";

export function auditSearchContract(open: OpenStore): void {
  describe("searching the audit log", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.recordAudit(log);
    });
    after(() => store[Symbol.asyncDispose]());

    const targets = async (filter: Partial<AuditFilter>): Promise<readonly (string | undefined)[]> =>
      (await store.listAudit({ limit: 100, ...filter })).items.map((row) => row.target);

    it("finds by one action and by all that begin alike, whether few or many", async () => {
      assert.deepEqual(await targets({ action: "lineage.conflict" }), ["l1"]);
      assert.deepEqual(await targets({ action: "lineage." }), ["l1"]);
      assert.deepEqual(await targets({ action: "certificate." }), ["s3", "s2", "s1"]);
      assert.deepEqual(await targets({ action: "certificate" }), [], "without the dot it is one action");
      assert.equal((await store.listAudit({ limit: 10, action: "many." })).items.length, 10);
      assert.equal((await store.listAudit({ limit: 10, action: "many.one", since: 5000 })).items.at(-1)?.at, 9991);
    });

    it("finds what concerned an identity: as target or in the detail", async () => {
      assert.deepEqual(await targets({ identity: "gateway-1" }), ["gateway-1", "s3", "s1"]);
      assert.deepEqual(await targets({ identity: "gateway-1", action: "certificate.issued" }), ["s1"]);
      assert.deepEqual(await targets({ identity: "nobody" }), []);
    });

    it("finds by request, and by time: from a moment on, up to and without another", async () => {
      assert.deepEqual(await targets({ requestId: "r-2" }), ["s2"]);
      assert.deepEqual(await targets({ since: 20, until: 41 }), ["gateway-1", "s3", "s2"]);
      assert.deepEqual(await targets({ since: 20, until: 40 }), ["s3", "s2"]);
      assert.deepEqual(await targets({ actor: "ann@operators", since: 21, until: 50 }), ["s3"]);
      assert.deepEqual(await targets({ action: "certificate.", until: 25 }), ["s2", "s1"]);
    });

    it("leaves out nothing when the clock was set back: time orders what is found by time", async () => {
      assert.deepEqual(await targets({ since: 5, until: 16 }), ["l1", "s1"], "l1 came last and is of an earlier time");
    });

    it("goes on page by page, newest first or, after a row, oldest first", async () => {
      for (const filter of [
        { identity: "gateway-1" },
        { since: 1, until: 45 },
        { action: "certificate." },
        { after: 0 },
      ]) {
        const whole = (await store.listAudit({ limit: 1000, ...filter })).items.map((row) => row.seq).slice(0, 12);
        const paged: number[] = [];
        let cursor: string | null = "";
        while (cursor !== null && paged.length < whole.length) {
          const page = await store.listAudit({ limit: 1, ...filter, ...(cursor === "" ? {} : { cursor }) });
          paged.push(...page.items.map((row) => row.seq));
          cursor = page.nextCursor;
        }
        assert.deepEqual(paged, whole, JSON.stringify(filter));
      }
      assert.deepEqual(
        (await store.listAudit({ limit: 2, after: 1, action: "certificate." })).items.map((row) => row.target),
        ["s2", "s3"],
      );
    });

    it("keeps a cursor good when rows come that change how the list is read", async () => {
      const rows = (from: number, count: number) =>
        Array.from({ length: count }, (_, index) => entry(100_000 + from + index, "flip.one", `f${from + index}`));
      await store.recordAudit(rows(0, 4_999));
      for (const more of [{ action: "flip." }, { actor: "system", action: "flip.one" }]) {
        const filter = { limit: 2, since: 100_000, until: 104_999, ...more };
        const first = await store.listAudit(filter);
        await store.recordAudit(rows(5_000, 10));
        const second = await store.listAudit({ ...filter, cursor: first.nextCursor ?? assert.fail() });
        assert.deepEqual(
          [...first.items, ...second.items].map((row) => row.target),
          ["f4998", "f4997", "f4996", "f4995"],
        );
      }
    });

    it("keeps checkpoints in order, and takes none of a row that is not there", async () => {
      const tail = (await store.auditTail()) ?? assert.fail();
      await store.recordCheckpoint({ ...tail, at: 1, line: "first" });
      await store.recordCheckpoint({ ...tail, at: 2, line: "second" });
      assert.deepEqual(
        (await store.listCheckpoints(0, 10)).map((kept) => kept.line),
        ["first", "second"],
      );
      assert.deepEqual((await store.listCheckpoints(1, 10)).length, 1);
      assert.deepEqual((await store.listCheckpoints(0, 1)).length, 1);
      for (const wrong of [{ seq: tail.seq + 1 }, { hash: "0".repeat(64) }]) {
        await assert.rejects(
          store.recordCheckpoint({ ...tail, ...wrong, at: 3, line: "third" }),
          (error: unknown) => error instanceof AppError && error.code === "internal",
        );
      }
      assert.deepEqual(await store.auditTail(), tail, "a checkpoint is no row of the log");
    });
  });
}

function entry(at: number, action: string, target: string, more: Partial<AuditEntry> = {}): AuditEntry {
  return { ...f.audit(action, target, at), ...more };
}

const log: readonly AuditEntry[] = [
  entry(10, "certificate.issued", "s1", { detail: { identity: "gateway-1" } }),
  entry(20, "certificate.issued", "s2", { requestId: "r-2", detail: { identity: 7 } }),
  entry(30, "certificate.revoked", "s3", { actor: "ann@operators", detail: { identity: "gateway-1" } }),
  entry(40, "identity.changed", "gateway-1"),
  // More than a search by action would sort.
  ...Array.from({ length: 5_001 }, (_, index) => entry(5_000 + index, "many.one", `m${index}`)),
  entry(15, "lineage.conflict", "l1"),
];
