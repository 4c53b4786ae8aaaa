import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { lastDue, parseCron } from "../../../../server/jobs/cron-time.ts";

/** By the host's clock, as crontab(5) counts. */
const at = (year: number, month: number, day: number, hour = 0, minute = 0): number =>
  new Date(year, month - 1, day, hour, minute).getTime();
const last = (expression: string, now: number): number | null => lastDue(parseCron(expression), now);

describe("when a schedule was last due", () => {
  const cases: readonly (readonly [string, number, number | null])[] = [
    ["17 3 * * *", at(2026, 11, 20, 3, 17), at(2026, 11, 20, 3, 17)],
    ["17 3 * * *", at(2026, 11, 20, 3, 16), at(2026, 11, 19, 3, 17)],
    ["17 3 * * *", at(2026, 11, 20, 23, 59), at(2026, 11, 20, 3, 17)],
    ["*/15 * * * *", at(2026, 11, 20, 9, 44), at(2026, 11, 20, 9, 30)],
    ["5/20 8-10 * * *", at(2026, 11, 20, 12), at(2026, 11, 20, 10, 45)],
    ["0 4 * * sun", at(2026, 11, 20, 12), at(2026, 11, 15, 4)],
    ["0 4 * * 7", at(2026, 11, 20, 12), at(2026, 11, 15, 4)],
    ["0 4 * * 1-5", at(2026, 11, 22, 12), at(2026, 11, 20, 4)],
    ["0 0 1 jan *", at(2026, 11, 20), at(2026, 1, 1)],
    ["0 0 1,15 * *", at(2026, 11, 20), at(2026, 11, 15)],
    // Either day will do when both are restricted.
    ["0 0 13 * fri", at(2026, 11, 19), at(2026, 11, 13)],
    ["0 0 18 * fri", at(2026, 11, 19), at(2026, 11, 18)],
    ["0 0 29 2 *", at(2026, 11, 20), at(2024, 2, 29)],
    ["0 0 31 2 *", at(2026, 11, 20), null],
  ];
  for (const [expression, now, expected] of cases) {
    it(`${expression} at ${new Date(now).toString().slice(0, 21)}`, () => {
      assert.equal(last(expression, now), expected);
    });
  }

  for (const wrong of [
    "17 3 * *",
    "60 3 * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 8",
    "5-1 * * * *",
    "*/0 * * * *",
    "x * * * *",
  ]) {
    it(`refuses ${wrong}`, () => {
      assert.throws(() => parseCron(wrong), RangeError);
    });
  }
});
