/**
 * The agent against a simulated world: a service that fails, a proxy that does not listen, clocks that jump, and a journal in any
 * state whatever. It always gets there, it never waits past the end of a leaf, and it never runs in a circle.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Action } from "../../../agent-client/decide.ts";
import { anySimulation } from "../../support/any-host.ts";
import { assertSettled, blankJournal, day, hour, run, type Simulation, start } from "../../support/simulated-host.ts";

const always = (): boolean => true;
const quiet = (): void => {};
/** Long enough for every back-off to end. */
const horizon = (sim: Simulation): number => (sim.life < day ? hour : 3 * day);

test("from every state the agent gets to a served certificate, once what it needs works", () => {
  fc.assert(
    fc.property(anySimulation, (sim) => {
      run(sim, start + horizon(sim), always, quiet);
      if (sim.life > 5 * day) assertSettled(sim);
      else assert.ok(sim.journal.current !== null && sim.journal.current.notAfter > sim.now);
    }),
    { numRuns: 200 },
  );
});

test("from every state, through any failures, it gets there when they end", () => {
  fc.assert(
    fc.property(anySimulation, fc.array(fc.boolean(), { maxLength: 60 }), (sim, script) => {
      const outcomes = [...script];
      run(sim, start + horizon(sim), () => outcomes.shift() ?? true, quiet);
      // Long lives settle; short ones are always in the middle of the next renewal, but never without a leaf in date.
      if (sim.life > 5 * day && outcomes.length === 0) assertSettled(sim);
    }),
    { numRuns: 200 },
  );
});

test("whatever fails, for ever, it waits between attempts and goes on trying", () => {
  fc.assert(
    fc.property(
      anySimulation,
      fc.constantFrom<Action>("renew", "install", "tell", "promote", "refresh-trust", "enroll"),
      (sim, broken) => {
        if (sim.life < day) return;
        const taken = run(sim, start + 2 * day, (action) => action !== broken, quiet);
        const tries = taken.filter((action) => action === broken).length;
        assert.ok(tries < 400, `${broken} tried ${tries} times in two days`);
        assert.ok(taken.length < 4000);
      },
    ),
    { numRuns: 150 },
  );
});

test("clocks that jump neither stop it nor make it run in a circle", () => {
  fc.assert(
    fc.property(
      anySimulation,
      fc.array(fc.integer({ min: -40 * day, max: 3 * day }), { maxLength: 5 }),
      (sim, jumps) => {
        const left = [...jumps];
        let at = 0;
        const jump = (): void => {
          at += 1;
          if (at % 3 === 0) sim.now += left.shift() ?? 0;
        };
        run(sim, start + horizon(sim), always, jump);
        run(sim, sim.now + horizon(sim), always, quiet);
        assert.ok(sim.journal.current !== null && sim.journal.current.notAfter > sim.now);
      },
    ),
    { numRuns: 200 },
  );
});

test("a year without failures: eighteen renewals, never a day without a served leaf in date", () => {
  const sim = fc.sample(anySimulation, { numRuns: 1, seed: 7 })[0];
  assert.ok(sim);
  Object.assign(sim, {
    life: 30 * day,
    journal: { ...blankJournal },
    installed: null,
    held: null,
    presented: null,
    issued: 0,
  });
  let worst = Infinity;
  run(sim, start + 365 * day, always, () => {
    const { current, next } = sim.journal;
    if (current !== null && next === null) worst = Math.min(worst, current.notAfter - sim.now);
  });
  assert.ok(sim.issued >= 16 && sim.issued <= 20, `${sim.issued} certificates in a year`);
  assert.ok(worst > 6 * day, `${worst / day} days were left`);
});
