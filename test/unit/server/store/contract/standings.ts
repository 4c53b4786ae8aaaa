import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { AgentReport } from "@newleaf/shared/api";
import type { NewCertificate } from "../../../../../server/store/certificates.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import type { OpenStore } from "./suite.ts";

const hour = 60 * f.minute;

export function standingContract(open: OpenStore): void {
  describe("what needs a hand in the fleet", () => {
    let store: Store;
    const leaves = new Map<string, NewCertificate>();
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      for (const id of ["a", "b", "c"]) leaves.set(id, await f.enrolled(store, id));
    });
    after(() => store[Symbol.asyncDispose]());

    const leafOf = (id: string) => leaves.get(id) ?? assert.fail();
    const report = (id: string, at: number, served: string, crls: Record<string, number> = {}, clockSkew = 0) => {
      const seen = { address: "127.0.0.1:443", serverName: id, fingerprint: served, at: new Date(at).toISOString() };
      const body: AgentReport = {
        certificates: [{ name: "web", installed: served, served: [seen] }],
        bundleVersion: 1,
        crls,
        clock: new Date(at).toISOString(),
      };
      return store.recordReport({ identity: id, at, serial: leafOf(id).serial, clockSkew, report: body });
    };
    const suspended = async (id: string, isSuspended: boolean) =>
      store.setIdentityState(id, isSuspended ? "suspended" : "active", f.t0, []);

    it("remembers since when a host serves another leaf, until a report says otherwise", async () => {
      const late = f.t0 + 9 * hour;
      await report("a", f.t0, leafOf("a").fingerprint);
      await report("b", f.t0 + 5, leafOf("a").fingerprint);
      await report("b", f.t0 + hour, leafOf("a").fingerprint);
      assert.deepEqual(await store.listMismatches(late, 9), [{ identity: "b", since: f.t0 + 5, at: f.t0 + hour }]);
      assert.deepEqual([await store.countMismatches(late), await store.countMismatches(f.t0 + 5)], [1, 0]);
      await suspended("b", true);
      assert.equal(await store.countMismatches(late), 0, "whoever is suspended is not waited for");
      await suspended("b", false);
      await report("b", f.t0 + 2 * hour, leafOf("b").fingerprint);
      assert.equal(await store.countMismatches(late), 0);
      await report("b", f.t0 + 3 * hour, leafOf("a").fingerprint);
      assert.equal((await store.listMismatches(late, 9))[0]?.since, f.t0 + 3 * hour, "a new one begins anew");
      await report("b", f.t0 + 4 * hour, leafOf("b").fingerprint);
    });

    it("knows the silent: agents with a leaf in date, the longest silent first", async () => {
      const now = f.t0 + f.day;
      assert.equal(await store.countSilent(now, now), 2, "c has never reported: there is no agent to be silent");
      assert.deepEqual(await store.listSilent(now, now, 9), [
        { identity: "a", lastSeenAt: f.t0 },
        { identity: "b", lastSeenAt: f.t0 + 4 * hour },
      ]);
      assert.deepEqual(await store.listSilent(f.t0 + 1, now, 9), [{ identity: "a", lastSeenAt: f.t0 }]);
      assert.equal(
        await store.countSilent(now, leafOf("a").notAfter + 1),
        0,
        "their leaves have ended: told elsewhere",
      );
    });

    it("knows who has an older CRL in force, as far as they are heard of", async () => {
      await report("a", f.t0 + 5 * hour, leafOf("a").fingerprint, { [f.issuerId]: 3, other: 9 });
      await report("b", f.t0 + 5 * hour, leafOf("b").fingerprint, { [f.issuerId]: 5 });
      assert.equal(await store.countBehindCrl(f.issuerId, 5, f.t0), 1);
      assert.deepEqual(await store.listBehindCrl(f.issuerId, 6, f.t0, 9), [
        { identity: "a", number: 3 },
        { identity: "b", number: 5 },
      ]);
      assert.equal(await store.countBehindCrl(f.issuerId, 6, f.t0 + 6 * hour), 0, "the silent are told as such");
      await report("a", f.t0 + 6 * hour, leafOf("a").fingerprint, { [f.issuerId]: 6 });
      assert.equal(await store.countBehindCrl(f.issuerId, 6, f.t0), 1);
      assert.equal(await store.countBehindCrl("other", 99, f.t0), 0, "a CRL no longer reported is forgotten");
    });

    it("lists leaves past their renewal window, of the active", async () => {
      const { renewalEnd, serial } = leafOf("a");
      assert.equal(await store.countOverdueActive(renewalEnd), 0);
      assert.equal(await store.countOverdueActive(renewalEnd + 1), 3);
      assert.equal((await store.listOverdue(renewalEnd + 1, 1))[0]?.serial, serial);
      await suspended("a", true);
      assert.equal(await store.countOverdueActive(renewalEnd + 1), 2);
      await suspended("a", false);
      await store.recordIssuance(f.renewal(leafOf("c"), { issuedAt: renewalEnd }));
      assert.equal(await store.countOverdueActive(renewalEnd + 1), 2, "followed");
    });

    it("takes the middle of the clocks' differences", async () => {
      await report("a", f.t0 + 7 * hour, leafOf("a").fingerprint, {}, 100);
      await report("b", f.t0 + 7 * hour, leafOf("b").fingerprint, {}, -7_000);
      await report("c", f.t0 + 7 * hour, leafOf("c").fingerprint, {}, 900);
      assert.deepEqual(await store.medianClockSkew(f.t0 + 6 * hour), { skew: 100, reports: 3 });
      assert.equal(await store.medianClockSkew(f.t0 + 8 * hour), null);
    });
  });
}
