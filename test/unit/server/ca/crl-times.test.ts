import assert from "node:assert/strict";
import { test } from "node:test";
import { crlBackdate, thisUpdateOf } from "../../../../server/ca/crl-times.ts";

const now = Date.UTC(2026, 10, 20, 12) + 345;
const whole = now - 345;
const day = 86_400_000;
const lifetime = 14 * day;

for (const [name, previous, life, expected] of [
  ["a minute back, in whole seconds", null, lifetime, whole - 60_000],
  ["a twentieth of the life where that is less", null, 20_000, whole - 1_000],
  ["later than the previous one", whole - 10_000, lifetime, whole - 9_000],
  ["never after now", whole, lifetime, whole],
  ["a minute back again when the previous is older than that", whole - day, lifetime, whole - 60_000],
  ["a previous one from the future does not count", now + day, lifetime, whole - 60_000],
] as const) {
  test(`thisUpdate lies ${name}`, () => assert.equal(thisUpdateOf(now, previous, life), expected));
}

test("a hundred CRLs in a minute never go back, nor ahead of the clock", () => {
  let previous = thisUpdateOf(now, null, lifetime);
  for (let step = 1; step <= 100; step += 1) {
    const at = now + step * 500;
    const next = thisUpdateOf(at, previous, lifetime);
    assert.ok(next >= previous && next <= at, `${step}`);
    previous = next;
  }
});

test("backdating takes no more than a minute", () => {
  assert.deepEqual([crlBackdate(lifetime), crlBackdate(60_000)], [60_000, 3_000]);
});
