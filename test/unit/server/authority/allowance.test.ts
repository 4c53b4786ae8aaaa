import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAllowance, perHour } from "../../../../server/authority/allowance.ts";

const second = 1000;
const hour = 3600 * second;

function world() {
  const time = { now: 1_000_000 };
  return { time, allowance: createAllowance({ now: () => time.now }) };
}

describe("a bucket of tokens", () => {
  const rate = { burst: 3, perHour: 3600 };

  it("gives its burst at once, then one after the other", () => {
    const { time, allowance } = world();
    const taken = () => allowance.take("a", rate);
    assert.deepEqual([taken(), taken(), taken(), taken()], [true, true, true, false]);
    assert.equal(allowance.readyIn("a", rate), second);
    time.now += 999;
    assert.equal(allowance.isLeft("a", rate), false);
    assert.equal(allowance.readyIn("a", rate), 1);
    time.now += 1;
    assert.deepEqual([allowance.isLeft("a", rate), taken(), taken()], [true, true, false]);
    time.now += hour;
    assert.deepEqual([taken(), taken(), taken(), taken()], [true, true, true, false], "never more than its burst");
  });

  it("is each one's own", () => {
    const { allowance } = world();
    for (let count = 0; count < 4; count++) allowance.take("a", rate);
    assert.equal(allowance.take("b", rate), true);
  });

  it("so many an hour are there at once, and within any hour no more than twice as many", () => {
    const { time, allowance } = world();
    let taken = 0;
    for (let minute = 0; minute < 60; minute++, time.now += 60 * second)
      for (let count = 0; count < 20; count++) if (allowance.take("a", perHour(60))) taken += 1;
    assert.ok(taken >= 60 && taken <= 120, String(taken));
  });

  it("a clock that steps back makes nobody wait longer", () => {
    const { time, allowance } = world();
    for (let count = 0; count < 3; count++) allowance.take("a", rate);
    time.now -= 10 * hour;
    assert.equal(allowance.take("a", rate), false);
    time.now += second;
    assert.equal(allowance.take("a", rate), true);
  });

  it("remembers nobody for longer than his bucket takes to fill, and a bounded number at all", () => {
    const { time, allowance } = world();
    const before = process.memoryUsage().heapUsed;
    for (let count = 0; count < 400_000; count++) allowance.take(`host-${count}`, rate);
    assert.equal(allowance.take("host-399999", rate), true);
    time.now += hour;
    for (let count = 0; count < 20_000; count++) allowance.take(`later-${count}`, rate);
    assert.ok(process.memoryUsage().heapUsed - before < 200_000_000);
  });
});
