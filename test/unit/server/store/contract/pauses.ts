import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { PauseRow } from "../../../../../server/store/pauses.ts";
import type { Store } from "../../../../../server/store/store.ts";
import * as f from "../fixture.ts";
import { actions, type OpenStore, refused } from "./suite.ts";

export function pauseContract(open: OpenStore): void {
  describe("pauses", () => {
    let store: Store;
    before(async () => {
      store = await open();
      await store.found(f.foundation());
      await f.enrolled(store, "paused");
      await f.enrolled(store, "other");
    });
    after(() => store[Symbol.asyncDispose]());

    const pause = (changes: Partial<PauseRow> = {}): PauseRow => ({
      subject: "renewal 4a",
      identity: "paused",
      serial: "4a",
      key: null,
      code: "lineage-locked",
      reason: "Two holders",
      basis: "current locked",
      since: f.t0,
      until: f.t0 + f.day,
      refusals: 50,
      address: "192.0.2.7",
      ...changes,
    });
    const subjects = async (now: number, identity?: string): Promise<string[]> => {
      const request = { limit: 10, now, ...(identity === undefined ? {} : { identity }) };
      return (await store.listPauses(request)).items.map(({ subject }) => subject);
    };

    it("are kept whole and listed while they stand, newest first, by identity", async () => {
      const first = pause();
      const second = pause({
        subject: "enrollment x",
        identity: "other",
        serial: null,
        key: f.newKey(),
        until: f.t0 + 5,
      });
      await store.recordPause(first, [f.audit("client.paused", "paused")]);
      await store.recordPause(second, [f.audit("client.paused", "other")]);
      assert.deepEqual((await store.listPauses({ limit: 10, now: f.t0 })).items, [second, first]);
      assert.deepEqual(await subjects(f.t0, "paused"), ["renewal 4a"]);
      assert.deepEqual(await subjects(f.t0 + 5), ["renewal 4a"], "the other is over");
      assert.deepEqual((await actions(store)).slice(-2), ["client.paused", "client.paused"]);
    });

    it("a later one of the same subject takes the place of the first, and those that are over go", async () => {
      const later = pause({ since: f.t0 + 10, until: f.t0 + 10 + f.day, refusals: 100 });
      await store.recordPause(later, []);
      assert.deepEqual((await store.listPauses({ limit: 10, now: f.t0 })).items, [later]);
    });

    it("are lifted by identity; where nothing is paused that is said, and nothing is audited", async () => {
      await store.recordPause(pause({ subject: "renewal 4b" }), []);
      await store.recordPause(pause({ subject: "gate 4c", identity: "other" }), []);
      const lifted = await store.liftPauses("paused", f.t0 + 20, [f.audit("pauses.lifted", "paused")]);
      assert.deepEqual(lifted.toSorted(), ["renewal 4a", "renewal 4b"]);
      assert.deepEqual(await subjects(f.t0 + 20), ["gate 4c"]);
      const before = await actions(store);
      await assert.rejects(store.liftPauses("paused", f.t0 + 20, [f.audit("pauses.lifted")]), refused("not-found"));
      await assert.rejects(store.liftPauses("other", f.t0 + f.day, [f.audit("pauses.lifted")]), refused("not-found"));
      assert.deepEqual(await actions(store), before);
    });
  });
}
