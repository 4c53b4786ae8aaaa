/** What the agent does while the newest leaf has to wait: announced, or taken back. Every row named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseSet, leafHold } from "../../../../agent-client/decide/choice.ts";
import { decide } from "../../../../agent-client/decide/decide.ts";
import type { Journal } from "../../../../agent-client/journal.ts";
import {
  day,
  type DecisionRow,
  desiredOf,
  gatedUntil,
  installedOf,
  leaf,
  newer,
  old,
  servedOf,
  start,
  testDecisions,
  world,
} from "../../../support/decision-world.ts";

const renewed = { next: newer };
/** The new leaf is held, the old one is on disk and serves. */
const between = {
  desired: desiredOf(newer),
  fallback: desiredOf(old),
  now: start + 20 * day,
  beforeSwitch: { waitMs: 600_000 },
} as const;
const announced = (at: number, fingerprint = newer.fingerprint): Partial<Journal> => ({
  ...renewed,
  announced: { fingerprint, at },
});
const charge = { version: "v-bad", row: "broke", since: start, detail: "", contents: null, leaf: null, clients: null };
/** The new leaf was taken back and may be tried again in an hour. */
const condemned: Partial<Journal> = {
  ...renewed,
  quarantine: { ...charge, leaf: newer.fingerprint },
  ...gatedUntil("quarantine", start + 20 * day + 3_600_000),
};
const calmly = { ...between, beforeSwitch: null };
const newCrl = { crlNumbers: { ca: 6 }, revoked: "one" };

const table: readonly DecisionRow[] = [
  [
    "a newer leaf, and clients pin: tell the service first",
    world({ ...between, report: { due: true, at: start } }, renewed),
    "report",
  ],
  ["a newer leaf, and clients pin: announce it", world(between, renewed), "announce"],
  [
    "the service is down: announce it all the same",
    world({ ...between, report: { due: true, at: start } }, { ...renewed, ...gatedUntil("report", start + 21 * day) }),
    "announce",
  ],
  [
    "the announcement failed lately: wait",
    world(between, { ...renewed, ...gatedUntil("announce", between.now + 1000) }),
    "wait",
  ],
  ["announced a minute ago: wait", world(between, announced(between.now - 60_000)), "wait"],
  [
    "another leaf was announced: announce this one",
    world(between, announced(between.now - day, "another")),
    "announce",
  ],
  ["announced by a clock that was ahead: announce it again", world(between, announced(between.now + 1000)), "announce"],
  ["announced, and waited for: install it", world(between, announced(between.now - 600_000)), "install"],
  [
    "announced, and the service has not heard of it: tell it first",
    world({ ...between, report: { due: true, at: start } }, announced(between.now - 600_000)),
    "report",
  ],
  [
    "never announced, and the old leaf is about to expire: install it",
    world({ ...between, now: old.notAfter - 3_600_000 }, { ...renewed, nextUsed: true }),
    "install",
  ],
  ["not announced, but the old leaf is revoked: install it", world({ ...between, revoked: true }, renewed), "install"],
  ["nothing is installed: nobody pins anything yet", world({ ...between, installed: null }, renewed), "install"],
  [
    "a new CRL while a leaf is announced: install it with the old leaf",
    world(
      { ...between, desired: desiredOf(newer, newCrl), fallback: desiredOf(old, newCrl) },
      announced(between.now - 60_000),
    ),
    "install",
  ],
  [
    "only the bundle is new: nothing to announce",
    world({ ...between, desired: desiredOf(old, { bundleVersion: 2 }) }),
    "install",
  ],
  ["a leaf was taken back: wait", world(calmly, condemned), "wait"],
  [
    "a leaf was taken back, its time has come: install it",
    world({ ...calmly, now: start + 20 * day + 3_600_000 }, condemned),
    "install",
  ],
  [
    "a new CRL while a leaf is taken back: install it with the old leaf",
    world({ ...calmly, desired: desiredOf(newer, newCrl), fallback: desiredOf(old, newCrl) }, condemned),
    "install",
  ],
  [
    "that set is on disk: tell",
    world(
      {
        ...calmly,
        desired: desiredOf(newer, newCrl),
        fallback: desiredOf(old, newCrl),
        installed: installedOf(old, { crlNumbers: { ca: 6 } }),
      },
      condemned,
    ),
    "tell",
  ],
  [
    "a leaf was taken back, the one after it is here: install that one",
    world({ ...calmly, desired: desiredOf(leaf("newest", start + 20 * day)) }, condemned),
    "install",
  ],
  [
    "a leaf was taken back, and the old one is revoked: install it all the same",
    world({ ...calmly, revoked: true }, condemned),
    "install",
  ],
  [
    "CRLs were taken back: wait",
    world(
      { desired: desiredOf(old, newCrl) },
      { quarantine: { ...charge, clients: "1 ca=6" }, ...gatedUntil("quarantine", start + 2 * day) },
    ),
    "wait",
  ],
  [
    "CRLs were taken back, newer ones are here: install them",
    world(
      { desired: desiredOf(old, { crlNumbers: { ca: 7 } }) },
      { quarantine: { ...charge, clients: "1 ca=6" }, ...gatedUntil("quarantine", start + 2 * day) },
    ),
    "install",
  ],
  [
    "this very set was taken back (a template): wait",
    world(
      { desired: desiredOf(old, { recipe: "new" }) },
      { quarantine: { ...charge, contents: `${old.fingerprint} 1` }, ...gatedUntil("quarantine", start + 2 * day) },
    ),
    "wait",
  ],
  [
    "the one before is back on disk and not served: tell",
    world(calmly, { ...condemned, told: null, notServed: { version: "v-old", since: start, detail: "" } }),
    "tell",
  ],
  [
    "told, and killed before it was proven: tell",
    world({}, { served: { ...servedOf(old), version: "v-before" } }),
    "tell",
  ],
];

testDecisions(table);

test("a wait ends when the announced leaf may be switched to, and says so", () => {
  const at = between.now - 60_000;
  const decision = decide(world({ ...between, probed: false }, announced(at)));
  assert.deepEqual([decision.next, decision.at], ["install", at + 600_000]);
  assert.match(decision.reason, /clients have had time/);
});

test("no wait reaches beyond an hour before the end of the leaf in service", () => {
  const long = { ...between, beforeSwitch: { waitMs: 40 * day } };
  assert.equal(leafHold(world(long, announced(between.now)))?.until, old.notAfter - 3_600_000);
  assert.equal(leafHold(world(long, renewed))?.until, old.notAfter - 3_600_000);
});

test("while the newest leaf waits, the set to be on disk is the old leaf with the newest bundle and CRLs", () => {
  const given = world({ ...between, fallback: desiredOf(old, newCrl) }, announced(between.now));
  assert.deepEqual(chooseSet(given), desiredOf(old, newCrl));
  assert.equal(chooseSet({ ...given, now: between.now + 600_000 }), given.desired);
  assert.equal(chooseSet({ ...given, fallback: null }), null, "nothing, when the old leaf is not held any more");
});

test("a gate of the quarantine that a wrong clock wrote is not believed", () => {
  const given = world(calmly, { ...condemned, ...gatedUntil("quarantine", start + 4000 * day) });
  assert.equal(leafHold(given), null);
});
