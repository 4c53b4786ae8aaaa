import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as f from "../fixture.ts";
import { type OpenStore, refused } from "./suite.ts";

export function idempotencyContract(open: OpenStore): void {
  describe("requests that are sent twice", () => {
    const request = (key: string, begunAt = f.t0) => ({
      keyHash: key,
      operator: f.adminId,
      requestHash: `hash of ${key}`,
      begunAt,
      expiresAt: begunAt + f.day,
    });
    const max = { requests: 2, bytes: 1000 };

    it("are known by their key until it is dropped, abandoned or expired", async () => {
      await using store = await open();
      const known = { requestHash: "hash of a", begunAt: f.t0, answer: null };
      assert.equal(await store.beginIdempotent(request("a"), max), null);
      assert.deepEqual(await store.beginIdempotent(request("a"), max), known);
      await store.finishIdempotent("a", new Uint8Array([1, 2, 3]));
      const { answer } = (await store.beginIdempotent(request("a"), max)) ?? {};
      assert.deepEqual([...(answer ?? [])], [1, 2, 3]);
      assert.equal(await store.beginIdempotent(request("b"), max), null);
      await assert.rejects(store.beginIdempotent(request("c"), max), refused("rate-limited"));
      await store.abandonIdempotent("b");
      assert.equal(await store.beginIdempotent(request("b"), max), null, "free again");
      await store.dropIdempotent(f.t0 + f.day);
      assert.equal(await store.beginIdempotent(request("a"), max), null, "forgotten");
      assert.equal(await store.beginIdempotent(request("a", f.t0 + 2 * f.day), max), null, "expired");
    });
  });
}
