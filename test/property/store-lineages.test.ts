/**
 * Whatever operators and agents do, in whatever order: the promises that lineages rest on. Each run drives two identities of its own
 * through a random history over a real database; what a step may not do, the store refuses, and refusing changes nothing.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { AppError } from "@newleaf/shared/problems";
import * as fc from "fast-check";
import { verifyAuditChain } from "../../server/audit-chain.ts";
import type { CertificateRow, NewCertificate } from "../../server/store/certificates.ts";
import type { RevocationReason } from "../../server/store/revocations.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { type Store, StaleBasis } from "../../server/store/store.ts";
import * as f from "../unit/server/store/fixture.ts";

interface Step {
  readonly act: "enroll" | "renew" | "replace" | "promote" | "hold" | "lift" | "revoke" | "lock" | "unlock" | "end";
  readonly who: number;
  /** Chooses a leaf, and with it its lineage, among those there are. */
  readonly pick: number;
  readonly reason: RevocationReason;
}

/** How often, out of 32: what ends a lineage must be rare, or histories die young. */
const acts: readonly (readonly [Step["act"], number])[] = [
  ["enroll", 4],
  ["renew", 6],
  ["promote", 6],
  ["replace", 5],
  ["hold", 3],
  ["lift", 3],
  ["unlock", 2],
  ["revoke", 1],
  ["lock", 1],
  ["end", 1],
];
const step: fc.Arbitrary<Step> = fc.record({
  act: fc.oneof(...acts.map(([act, weight]) => ({ weight, arbitrary: fc.constant(act) }))),
  who: fc.integer({ min: 0, max: 1 }),
  pick: fc.nat({ max: 1000 }),
  reason: fc.constantFrom<RevocationReason>("superseded", "keyCompromise"),
});

describe("lineages under any history", () => {
  let home: f.Scratch;
  let store: Store;
  let run = 0;
  before(async () => {
    home = await f.scratch();
    store = await openSqliteStore({ path: home.path, create: true });
    await store.found(f.foundation());
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  it("keeps at most one current leaf per identity, and refusals leave no trace", async () => {
    const reached = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 200, size: "max" }), async (steps) => {
        run += 1;
        const ids = [`run-${run}-a`, `run-${run}-b`];
        for (const id of ids) {
          await f.addIdentity(store, id);
          await enroll(id);
        }
        for (const next of steps) {
          const [id = "", other = ""] = next.who === 0 ? ids : ids.toReversed();
          const before = [await snapshot(id), await lastAudited()];
          const othersBefore = await snapshot(other);
          if (!(await attempt(id, next))) {
            assert.deepEqual([await snapshot(id), await lastAudited()], before, `a refused ${next.act} left a trace`);
          }
          assert.deepEqual(await snapshot(other), othersBefore, `${next.act} touched another identity`);
          await checkInvariants(id, reached);
        }
      }),
      { numRuns: Number(process.env["NEWLEAF_PROPERTY_RUNS"] ?? 20) },
    );
    assert.deepEqual(
      [...reached].toSorted(),
      ["current", "held", "pending", "replaced", "revoked", "superseded"],
      "every state was seen",
    );
    const verdict = verifyAuditChain(await store.readAuditChain(0, 1_000_000));
    assert.equal(verdict.ok, true);
    await checkCounts();
  });

  async function enroll(id: string): Promise<void> {
    const record = f.enrollment(f.leaf(id));
    await store.recordIssuance(record);
  }

  /** True when the store did it, false when it refused as it may. */
  async function attempt(id: string, next: Step): Promise<boolean> {
    try {
      await perform(id, next);
      return true;
    } catch (error) {
      if (error instanceof StaleBasis || error instanceof AppError) return false;
      throw error;
    }
  }

  async function perform(id: string, next: Step): Promise<void> {
    if (next.act === "enroll") return enroll(id);
    const all = await leavesOf(id);
    // Most steps go where they can succeed, if there is such a place: random histories alone rarely get far.
    const fitting = all.filter((leaf) => next.pick % 4 !== 0 && fits(next.act, leaf, all));
    const leaves = fitting.length > 0 ? fitting : all;
    const leaf = leaves[next.pick % leaves.length] as CertificateRow & NewCertificate;
    const lineage = leaf.lineage ?? "";
    switch (next.act) {
      case "renew":
        return store.recordIssuance(await renewalOf(leaf));
      case "replace": {
        const pending = await store.findSuccessor(leaf.serial);
        if (pending?.state !== "pending") throw new StaleBasis("nothing to replace");
        const replaces = f.revocation(pending as NewCertificate, "superseded");
        return store.recordIssuance({ ...(await renewalOf(leaf)), replaces });
      }
      case "promote":
        return f.promote(store, leaf.serial);
      case "hold":
        return f.revoke(store, leaf, "certificateHold", leaf.reason as RevocationReason | null);
      case "revoke":
        return f.revoke(store, leaf, next.reason, leaf.reason as RevocationReason | null);
      case "lift":
        return store.releaseHold({ serial: leaf.serial, at: f.t0, crls: [], audit: [f.audit("hold.lifted")] });
      case "lock":
        await store.lockLineage(lineage, { seen: leaf.serial }, f.t0, [f.audit("lineage.locked", lineage)]);
        return;
      case "unlock":
        return store.releaseLineage(lineage, f.t0, [f.audit("lineage.released", lineage)]);
      case "end":
        return store.revoke({
          records: [],
          basis: new Map(),
          blockKeys: [],
          endLineages: [lineage],
          crls: [],
          audit: [f.audit("lineage.revoked", lineage)],
        });
    }
  }

  function fits(act: Step["act"], leaf: CertificateRow, all: readonly CertificateRow[]): boolean {
    const asked = all.some((child) => child.parent === leaf.serial && child.state === "pending");
    if (act === "renew") return leaf.state === "current" && !asked;
    if (act === "replace" || act === "hold") return leaf.state === "current" && asked;
    if (act === "promote") return leaf.state === "pending";
    return act !== "lift" || leaf.state === "held";
  }

  /** As the service would ask: by the leaf as it is now, for the next generation of its lineage. */
  async function renewalOf(leaf: NewCertificate) {
    const newest = (await store.findLineage(leaf.lineage ?? ""))?.newestGeneration ?? 0;
    return f.renewal(leaf, { generation: newest + 1 });
  }

  async function leavesOf(id: string): Promise<readonly CertificateRow[]> {
    return (await store.listCertificates({ identity: id, limit: 1000, now: f.t0 })).items;
  }

  async function snapshot(id: string) {
    const lineages = await store.listLineages({ identity: id, limit: 1000 });
    return { leaves: await leavesOf(id), lineages: lineages.items };
  }

  async function lastAudited(): Promise<number | undefined> {
    return (await store.listAudit({ limit: 1 })).items[0]?.seq;
  }

  async function checkInvariants(id: string, reached: Set<string>): Promise<void> {
    const leaves = await leavesOf(id);
    const withdrawn = new Set((await store.listRevocations(f.issuerId)).map((row) => row.serial));
    assert.ok(leaves.filter((leaf) => leaf.state === "current").length <= 1, "two current leaves of one identity");
    for (const leaf of leaves) {
      reached.add(leaf.state);
      const isWithdrawn = leaf.state === "held" || leaf.state === "revoked" || leaf.state === "replaced";
      assert.equal(withdrawn.has(leaf.serial), isWithdrawn, `${leaf.state} and the revocations disagree`);
      assert.equal(leaf.revokedAt !== null && leaf.reason !== null, isWithdrawn);
      if (leaf.state === "current") assert.notEqual(leaf.firstUsedAt, null);
      if (leaf.state === "pending" || leaf.state === "replaced") assert.equal(leaf.firstUsedAt, null);
      if (leaf.state === "superseded") assert.notEqual(leaf.supersededAt, null);
      if (leaf.state === "pending" || leaf.state === "current") assert.equal(leaf.supersededAt, null);
    }
    const { items: lineages } = await store.listLineages({ identity: id, limit: 1000 });
    for (const lineage of lineages) {
      const own = leaves.filter((leaf) => leaf.lineage === lineage.id);
      assert.equal(lineage.newestGeneration, Math.max(...own.map((leaf) => leaf.generation)));
      assert.equal(new Set(own.map((leaf) => leaf.generation)).size, own.length, "two leaves of one generation");
      assert.equal(lineage.lockedAt !== null, lineage.state === "locked" || lineage.evidence !== null);
      // What is superseded never comes back to life: the current leaf is the newest of its lineage that was ever used.
      const current = own.find((leaf) => leaf.state === "current");
      const usedLater = own.filter(
        (leaf) => current !== undefined && leaf.generation > current.generation && leaf.firstUsedAt !== null,
      );
      assert.deepEqual(
        usedLater.map((leaf) => leaf.state),
        [],
      );
    }
    const inForce = (await store.listInForce(100_000)).filter((row) => row.identity === id);
    assert.ok(inForce.length <= 1);
    const newest = leaves.find((leaf) => leaf.state === "pending" || leaf.state === "current");
    assert.equal(inForce[0]?.serial, newest?.serial);
  }

  async function checkCounts(): Promise<void> {
    for (const { state, profile, count } of await store.countCertificates(f.t0)) {
      let listed = 0;
      let cursor: string | null = null;
      do {
        const page: Awaited<ReturnType<Store["listCertificates"]>> = await store.listCertificates({
          state,
          profile,
          limit: 1000,
          now: f.t0,
          ...(cursor === null ? {} : { cursor }),
        });
        listed += page.items.length;
        cursor = page.nextCursor;
      } while (cursor !== null);
      assert.equal(count, listed, `${state} ${profile}`);
    }
  }
});
