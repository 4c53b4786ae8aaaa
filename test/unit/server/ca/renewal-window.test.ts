import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalWindow } from "../../../../server/ca/renewal-window.ts";

const day = 86_400_000;

test("a leaf of 30 days wants to be renewed from day 20, over three days", () => {
  assert.deepEqual(renewalWindow({ issuedAt: 0, notAfter: 30 * day }), { start: 20 * day, end: 23 * day });
});

test("a leaf of 20 seconds is renewed after two thirds of what is left of it", () => {
  const { start, end } = renewalWindow({ issuedAt: 1_000, notAfter: 20_000 });
  assert.equal(start, 1_000 + Math.floor((19_000 * 2) / 3));
  assert.ok(end > start && end < 20_000);
});

test("whatever is configured, the window lies between issuance and the end of life", () => {
  for (const at of [-1, 0, 0.5, 0.99, 1, 7]) {
    for (const spread of [-1, 0, 0.1, 1, 9]) {
      for (const life of [40, 1_000, 20_000, 30 * day]) {
        const { start, end } = renewalWindow({ issuedAt: 5_000, notAfter: 5_000 + life, at, spread });
        assert.ok(start >= 5_000 && start < end && end < 5_000 + life, `${at} ${spread} ${life}: ${start} ${end}`);
      }
    }
  }
});
