import * as fc from "fast-check";
import { type HeldLeaf, type Journal, retryKinds } from "../../agent-client/journal.ts";
import { held } from "./held-leaf.ts";
import { blankJournal, day, hour, newLeaf, type Simulation, start } from "./simulated-host.ts";

/** Any state at all, also those that no sequence of this program leaves behind: files restored by hand, a journal of last month. */
export const anySimulation = fc
  .record({
    life: fc.constantFrom(600_000, day, 30 * day),
    currentAge: fc.option(fc.double({ min: -0.1, max: 1.5, noNaN: true })),
    nextAge: fc.option(fc.double({ min: 0, max: 1.2, noNaN: true })),
    nextUsed: fc.boolean(),
    requested: fc.boolean(),
    installed: fc.constantFrom("none", "current", "next", "foreign"),
    flaw: fc.constantFrom("none", "incomplete", "mismatch", "quarantined", "old-crl"),
    told: fc.constantFrom("none", "current", "next", "foreign"),
    served: fc.constantFrom("none", "current", "next", "foreign"),
    presented: fc.constantFrom("none", "current", "next", "foreign"),
    notServed: fc.boolean(),
    stuck: fc.boolean(),
    hasTrust: fc.boolean(),
    gates: fc.array(fc.integer({ min: -2 * hour, max: 400 * day }), {
      minLength: retryKinds.length,
      maxLength: retryKinds.length,
    }),
    timers: fc.array(fc.integer({ min: -400 * day, max: 400 * day }), { minLength: 4, maxLength: 4 }),
    waitMs: fc.constantFrom(null, 0, 60_000, hour),
    announced: fc.option(fc.integer({ min: -2 * day, max: 2 * day })),
    condemned: fc.constantFrom("none", "leaf", "clients", "both", "set"),
    healthy: fc.boolean(),
    seed: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  })
  .map((given): Simulation => {
    const sim: Simulation = {
      now: start,
      life: given.life,
      journal: { ...blankJournal },
      installed: null,
      trustVersion: 3,
      crlNumber: 40,
      held: given.hasTrust ? { version: 3, crl: 40 } : null,
      lookedAt: start + (given.timers[0] ?? 0),
      windowCheckedAt: start + (given.timers[1] ?? 0),
      trustCheckedAt: start + (given.timers[2] ?? 0),
      reportedAt: start + (given.timers[3] ?? 0),
      reported: "",
      serial: 0,
      issued: 0,
      versions: 0,
      presented: null,
      healthy: given.healthy,
      waitMs: given.waitMs,
      switchedAt: new Map(),
      reportedNext: new Set(),
      disk: new Map(),
      random: randomFrom(given.seed),
    };
    const aged = (age: number | null): HeldLeaf | null => {
      if (age === null) return null;
      const leaf = newLeaf({ ...sim, now: start - age * given.life, serial: sim.serial });
      sim.serial += 1;
      return { ...leaf, fingerprint: `leaf-${sim.serial}` };
    };
    const current = aged(given.currentAge);
    const next = aged(given.nextAge);
    const foreign = held("foreign", { receivedAt: start, notAfter: start + given.life });
    const named = { none: null, current, next, foreign };
    const installed = named[given.installed];
    sim.installed = installed && {
      version: `v-${installed.fingerprint}`,
      fingerprint: installed.fingerprint,
      notAfter: installed.notAfter,
      bundleVersion: 3,
      crlNumbers: { ca: given.flaw === "old-crl" ? 30 : 40 },
      complete: given.flaw !== "incomplete",
      keyMatches: given.flaw !== "mismatch",
      quarantined: given.flaw === "quarantined",
    };
    const told = named[given.told];
    const served = named[given.served];
    const { journal } = sim;
    journal.current = current;
    journal.next = next;
    journal.nextUsed = next !== null && given.nextUsed;
    journal.request = given.requested ? { kind: "renewal", key: "k", begunAt: start, pendingId: null } : null;
    journal.told = told && {
      version: `v-${told.fingerprint}`,
      fingerprint: told.fingerprint,
      bundleVersion: 3,
      revoked: "5",
      crlNumbers: { ca: 40 },
      refreshAt: start + given.life,
    };
    journal.served = served && {
      version: `v-${served.fingerprint}`,
      fingerprint: served.fingerprint,
      notAfter: served.notAfter,
      at: start,
    };
    journal.notServed = given.notServed ? { version: "v", since: start, detail: "" } : null;
    journal.stuck = given.stuck ? (sim.installed?.version ?? null) : null;
    const newest = next ?? current;
    if (given.announced !== null && newest !== null)
      journal.announced = { fingerprint: newest.fingerprint, at: start + given.announced };
    if (given.condemned !== "none") {
      journal.quarantine = {
        version: "v-bad",
        row: "broke",
        since: start,
        detail: "",
        contents: given.condemned === "set" ? `${newest?.fingerprint} 3 40` : null,
        leaf: given.condemned === "leaf" || given.condemned === "both" ? (newest?.fingerprint ?? null) : null,
        clients: given.condemned === "clients" || given.condemned === "both" ? "3 ca=40" : null,
      };
    }
    journal.retries = Object.fromEntries(
      retryKinds.map((kind, at) => [
        kind,
        {
          failures: 4,
          notBefore: start + Math.min(given.gates[at] ?? 0, given.life > day ? Infinity : given.life),
          error: null,
        },
      ]),
    ) as unknown as Journal["retries"];
    sim.presented = named[given.presented]?.fingerprint ?? null;
    return sim;
  });

/** Small, fast and repeatable (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
