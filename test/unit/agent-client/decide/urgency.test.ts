import assert from "node:assert/strict";
import { test } from "node:test";
import { isLate } from "../../../../agent-client/decide/urgency.ts";

const day = 86_400_000;
const leaf = { receivedAt: 0, notAfter: 30 * day };
const crls = [
  { thisUpdate: 0, nextUpdate: 14 * day },
  { thisUpdate: 0, nextUpdate: 1000 * day },
];

test("work for the leaf is late when nine tenths of its life are over", () => {
  assert.equal(isLate("ask", { now: 27 * day - 1, leaf, crls }), false);
  assert.equal(isLate("ask", { now: 27 * day, leaf, crls }), true);
  assert.equal(isLate("install", { now: 40 * day, leaf, crls: [] }), true);
  assert.equal(isLate("ask", { now: 40 * day, leaf: null, crls }), false, "without a leaf nothing is lost");
});

test("work for the trust is late when three quarters of the life of the CRL that ends first are over", () => {
  assert.equal(isLate("trust", { now: 10.5 * day - 1, leaf, crls }), false);
  assert.equal(isLate("trust", { now: 10.5 * day, leaf, crls }), true);
  assert.equal(isLate("trust", { now: 29 * day, leaf, crls: [] }), false);
});
