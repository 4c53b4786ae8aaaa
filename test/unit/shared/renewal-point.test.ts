import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalPoint } from "@newleaf/shared/renewal-point";

test("the renewal point is the same after every restart and lies inside the window", () => {
  const window = { start: 1_000, end: 2_000 };
  for (let at = 0; at < 1_000; at += 1) {
    const point = renewalPoint(window, `gateway-${at}`);
    assert.equal(point, renewalPoint(window, `gateway-${at}`));
    assert.ok(point >= 1_000 && point < 2_000);
  }
  assert.equal(renewalPoint({ start: 5, end: 5 }, "x"), 5);
});

test("renewal points spread a fleet evenly", () => {
  const tenths = Array.from({ length: 10 }, () => 0);
  for (let at = 0; at < 10_000; at += 1) {
    const slot = Math.floor(renewalPoint({ start: 0, end: 10_000 }, `agent-${at}`) / 1_000);
    tenths[slot] = (tenths[slot] ?? 0) + 1;
  }
  for (const count of tenths) assert.ok(count > 850 && count < 1_150, tenths.join(" "));
});
