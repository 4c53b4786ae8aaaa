import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
  type BackoffInput,
  longestPauseMs,
  retryAt,
  shortestPauseMs,
} from "../../../../agent-client/decide/backoff.ts";

const input = (change: Partial<BackoffInput>): BackoffInput => ({
  now: 1_000_000,
  failures: 1,
  baseMs: 30_000,
  capMs: 3_600_000,
  deadline: null,
  random: 0.5,
  ...change,
});

test("the pause doubles with each failure, up to the cap", () => {
  const pauses = [1, 2, 3, 4, 20].map((failures) => retryAt(input({ failures })) - 1_000_000);
  assert.deepEqual(pauses, [15_000, 30_000, 60_000, 120_000, 1_800_000]);
});

test("Retry-After is a lower end", () => {
  assert.ok(retryAt(input({ retryAfterSeconds: 120, random: 0 })) >= 1_000_000 + 120_000);
});

test("no pause is longer than half of what is left of the leaf, whatever the service asks for", () => {
  assert.equal(retryAt(input({ retryAfterSeconds: 3600, deadline: 1_010_000 })), 1_005_000);
});

test("an expired leaf no longer hurries anybody", () => {
  assert.equal(retryAt(input({ deadline: 999_999 })), 1_015_000);
});

test("the moment is always later, never beyond the longer of cap and Retry-After, and jitter is full", () => {
  fc.assert(
    fc.property(
      fc.record({
        now: fc.integer({ min: 0, max: 4e12 }),
        failures: fc.integer({ min: 0, max: 10_000 }),
        baseMs: fc.integer({ min: 1, max: 1e7 }),
        capMs: fc.integer({ min: 1, max: 1e8 }),
        retryAfterSeconds: fc.option(fc.integer({ min: 0, max: 1e6 }), { nil: undefined }),
        deadline: fc.option(fc.integer({ min: 0, max: 4e12 })),
        random: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      }),
      (given) => {
        const pause = retryAt(given) - given.now;
        assert.ok(pause >= shortestPauseMs && pause <= longestPauseMs);
        const asked = (given.retryAfterSeconds ?? 0) * 1000;
        assert.ok(pause <= Math.max(shortestPauseMs, given.capMs, asked + given.capMs) + 1);
        if (given.deadline !== null && given.deadline > given.now) {
          assert.ok(pause <= Math.max(shortestPauseMs, (given.deadline - given.now) / 2 + 1));
        }
      },
    ),
  );
});
