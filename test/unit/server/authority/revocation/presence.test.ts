import assert from "node:assert/strict";
import { test } from "node:test";
import { createPresence } from "../../../../../server/authority/revocation/presence.ts";
import type { Feed } from "../../../../../server/authority/feed.ts";

const clock = { now: () => 1_795_000_000_000 };
const feed: Pick<Feed, "held"> = { held: () => [] };
const store = { listReportedCrls: async () => [] };

test("a host that reports CRLs of issuers that nobody knows costs nothing lasting", async () => {
  const presence = createPresence(store, feed as Feed, clock);
  const rounds = 4_000;
  const inventedBy = (round: number) =>
    Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`${round}-${at}`, 1]));
  presence.reported("honest", { "3f9a": 7 });
  const begun = performance.now();
  for (let round = 0; round < rounds; round++) presence.reported("hostile", inventedBy(round));
  const took = performance.now() - begun;
  assert.ok(took < 2_000, `${rounds} reports took ${Math.round(took)} ms: each pays for those before`);
  assert.deepEqual(await presence.standings("3f9a"), [
    { identity: "honest", connected: false, number: 7 },
    { identity: "hostile", connected: false, number: null },
  ]);
});

test("what a host no longer reports is forgotten, and no name is one of every object's", async () => {
  const presence = createPresence(store, feed as Feed, clock);
  presence.reported("host", { a: 3, b: 4 });
  presence.reported("host", { b: 5 });
  const numbers = [];
  for (const issuer of ["a", "b", "constructor", "__proto__"])
    numbers.push((await presence.standings(issuer))[0]?.number);
  assert.deepEqual(numbers, [null, 5, null, null]);
});
