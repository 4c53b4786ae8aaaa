/**
 * The agent against a simulated world: a service that fails, a proxy that does not listen, clocks that jump, and a journal in any
 * state whatever. It always gets there, it never waits past the end of a leaf, and it never runs in a circle.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import type { Action } from "../../../agent-client/decide/decide.ts";
import { paceOf } from "../../../agent-client/decide/pace.ts";
import type { Sight } from "../../../agent-client/decide/rollback.ts";
import { anySimulation } from "../../support/any-host.ts";
import {
  assertSettled,
  blankJournal,
  day,
  hour,
  newLeaf,
  run,
  type Simulation,
  start,
} from "../../support/simulated-host.ts";

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
      fc.constantFrom<Action>(
        "renew",
        "announce",
        "install",
        "tell",
        "roll-back",
        "promote",
        "refresh-trust",
        "enroll",
      ),
      (sim, broken) => {
        if (sim.life < day) return;
        const taken = run(sim, start + 2 * day, (action) => action !== broken, quiet);
        const tries = taken.filter((action) => action === broken).length;
        assert.ok(tries < 1500, `${broken} tried ${tries} times in two days`);
        assert.ok(taken.length < 6000);
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

/** Enrolled, installed and served, nothing in the way. */
function calm(life: number, waitMs: number | null, seed = 1): Simulation {
  const sim = fc.sample(anySimulation, { numRuns: 1, seed })[0];
  assert.ok(sim);
  Object.assign(sim, { life, waitMs, journal: { ...blankJournal }, installed: null, held: null, presented: null });
  Object.assign(sim, { issued: 0, disk: new Map(), lookedAt: null, trustCheckedAt: null, windowCheckedAt: null });
  run(sim, start + hour, always, quiet);
  assertSettled(sim);
  return sim;
}

test("a next leaf is announced before it is switched to, for as long as was asked for, and never beyond the margin", () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 600_000, day, 40 * day), fc.integer({ min: 1, max: 1000 }), (waitMs, seed) => {
      const sim = calm(30 * day, waitMs, seed);
      const first = sim.presented;
      const notAfter = sim.installed?.notAfter ?? 0;
      const margin = paceOf(sim.journal.current, false).margin;
      run(sim, notAfter, always, quiet);
      assert.notEqual(sim.presented, first, "switched before the end");
      const { announced } = sim.journal;
      assert.ok(announced, "announced");
      const switchedAt = sim.switchedAt.get(sim.presented ?? "") ?? 0;
      const due = Math.min(announced.at + waitMs, notAfter - margin);
      assert.ok(switchedAt >= due, "not before");
      assert.ok(switchedAt <= due + 2000, `${switchedAt - due} ms late`);
      assert.ok(sim.reportedNext.has(sim.presented ?? ""), "the service had heard of it before the switch");
    }),
    { numRuns: 25 },
  );
});

test("a leaf that can never be announced is switched to before the one in service ends", () => {
  const sim = calm(30 * day, 600_000);
  const first = sim.presented;
  const notAfter = sim.installed?.notAfter ?? 0;
  run(sim, notAfter - 2 * hour, (action) => action !== "announce", quiet);
  assert.equal(sim.presented, first, "clients that pin go on");
  run(sim, notAfter, (action) => action !== "announce", quiet);
  assert.notEqual(sim.presented, first);
  assert.ok((sim.switchedAt.get(sim.presented ?? "") ?? 0) < notAfter);
});

test("CRLs keep pace while a leaf is announced, and while it is quarantined", () => {
  for (const sight of ["announced", "broken", "dead", "unverified", "unhealthy"] as const) {
    const sim = calm(30 * day, sight === "announced" ? 10 * day : null);
    const old = sim.presented;
    sim.journal.next = newLeaf(sim);
    const next = sim.journal.next.fingerprint;
    const works = (action: Action): boolean | Sight =>
      action === "tell" && sim.installed?.fingerprint === next && sight !== "announced" ? sight : true;
    run(sim, sim.now + hour, works, quiet);
    for (let count = 1; count <= 5; count += 1) {
      sim.crlNumber += 8;
      run(sim, sim.now + hour, works, quiet);
      assert.deepEqual(sim.installed?.crlNumbers, { ca: sim.crlNumber }, `${sight}: on disk`);
      assert.equal(sim.journal.told?.crlNumbers["ca"], sim.crlNumber, `${sight}: and loaded`);
      assert.equal(sim.presented, old, `${sight}: the old leaf serves`);
      assert.equal(sim.journal.notServed, null, sight);
    }
    run(sim, sim.now + 11 * day, always, quiet);
    assertSettled(sim);
    assert.equal(sim.journal.quarantine, null, `${sight}: forgiven`);
  }
});

test("CRLs that turn good clients away are taken back, and a newer set is tried at once", () => {
  const sim = calm(30 * day, null);
  sim.crlNumber += 8;
  const bad = sim.crlNumber;
  const works = (action: Action): boolean | Sight =>
    action === "tell" && sim.installed?.crlNumbers["ca"] === bad ? "canary-refused" : true;
  run(sim, sim.now + hour / 2, works, quiet);
  assert.equal(sim.installed?.crlNumbers["ca"], bad - 8, "the CRL before is back");
  assert.match(sim.journal.quarantine?.clients ?? "", new RegExp(`ca=${bad}$`));
  sim.crlNumber += 8;
  run(sim, sim.now + hour / 2, works, quiet);
  assert.equal(sim.installed?.crlNumbers["ca"], bad + 8);
  assertSettled(sim);
});

test("whatever harm one set does, the alarm ends once the proxy serves again", () => {
  fc.assert(
    fc.property(
      anySimulation,
      fc.constantFrom<Sight>("dead", "broken", "canary-passed", "old", "other"),
      (sim, sight) => {
        if (sim.life < 5 * day) return;
        run(sim, start + hour, (action) => (action === "tell" ? sight : true), quiet);
        run(sim, start + 4 * day, always, quiet);
        assertSettled(sim);
        assert.equal(sim.journal.quarantine, null);
      },
    ),
    { numRuns: 150 },
  );
});

test("a year without failures: eighteen renewals, never a day without a served leaf in date", () => {
  const sim = calm(30 * day, 600_000, 7);
  let worst = Infinity;
  run(sim, start + 365 * day, always, () => {
    const { current, next } = sim.journal;
    if (current !== null && next === null) worst = Math.min(worst, current.notAfter - sim.now);
  });
  assert.ok(sim.issued >= 16 && sim.issued <= 20, `${sim.issued} certificates in a year`);
  assert.ok(worst > 6 * day, `${worst / day} days were left`);
});
