/** The table of what the agent does next, every row named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalPoint } from "@newleaf/shared/renewal-point";
import { needsTelling } from "../../../../agent-client/decide/choice.ts";
import { decide, renewalDue } from "../../../../agent-client/decide/decide.ts";
import { paceOf } from "../../../../agent-client/decide/pace.ts";
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
  toldOf,
  world,
} from "../../../support/decision-world.ts";

const late = start + 29 * day;
const renewed = { next: newer };
const switched = { desired: desiredOf(newer), installed: installedOf(newer), now: start + 20 * day };
const loaded = { ...renewed, told: toldOf(newer), served: servedOf(newer) };

const condemned = {
  version: "v-bad",
  row: "broke",
  since: start,
  detail: "",
  contents: null,
  leaf: null,
  clients: null,
};

const table: readonly DecisionRow[] = [
  ["all is well: wait", world(), "wait"],
  [
    "the newest set is in service, and a set was taken back: prove it, so that the alarm ends",
    world({}, { quarantine: condemned }),
    "tell",
  ],
  [
    "no leaf at all: enroll",
    world({ desired: null, installed: null }, { current: null, told: null, served: null }),
    "enroll",
  ],
  [
    "no leaf, asked lately: wait",
    world(
      { desired: null, installed: null },
      { current: null, told: null, served: null, ...gatedUntil("ask", start + 2 * day) },
    ),
    "wait",
  ],
  ["the leaf has expired: ask for recovery", world({ now: start + 31 * day, desired: null }), "enroll"],
  ["before the window: wait", world({ now: start + 19 * day }), "wait"],
  ["behind the window: renew", world({ now: start + 24 * day }), "renew"],
  [
    "behind the window, refused lately: wait",
    world({ now: start + 24 * day }, gatedUntil("ask", start + 24 * day + 1000)),
    "wait",
  ],
  [
    "the window was pulled into the past: renew",
    world({}, { window: { start: start - day, end: start, learnedAt: start + day - 1, moved: true } }),
    "renew",
  ],
  [
    "a renewal was begun: finish it",
    world({}, { request: { kind: "renewal", key: "k", begunAt: start, pendingId: null } }),
    "renew",
  ],
  ["a human asks: renew whatever the window says", world({ forced: true }), "renew"],
  [
    "a human asks, refused lately: renew all the same",
    world({ forced: true }, gatedUntil("ask", start + 2 * day)),
    "renew",
  ],
  [
    "no bundle yet: fetch it",
    world({ desired: null, trust: { held: false, outdated: false, checkedAt: null } }),
    "refresh-trust",
  ],
  [
    "the feed announced something: fetch it",
    world({ trust: { held: true, outdated: true, checkedAt: start + day } }),
    "refresh-trust",
  ],
  ["nothing on disk: install", world({ installed: null }), "install"],
  ["a newer leaf is held: install it", world({ desired: desiredOf(newer), now: start + 20 * day }, renewed), "install"],
  [
    "a newer leaf, the last set was taken back: wait",
    world(
      { desired: desiredOf(newer), now: start + 20 * day },
      { ...renewed, ...gatedUntil("install", start + 20 * day + 600_000) },
    ),
    "wait",
  ],
  ["a file on disk is gone: install again", world({ installed: installedOf(old, { complete: false }) }), "install"],
  [
    "the key on disk is another one: install again",
    world({ installed: installedOf(old, { keyMatches: false }) }),
    "install",
  ],
  ["a new CRL is held: install it", world({ desired: desiredOf(old, { crlNumbers: { ca: 6 } }) }), "install"],
  ["a new bundle is held: install it", world({ desired: desiredOf(old, { bundleVersion: 2 }) }), "install"],
  ["switched, not told: tell", world(switched, renewed), "tell"],
  ["told, not seen served: tell", world(switched, { ...renewed, told: toldOf(newer) }), "tell"],
  [
    "installed, not served, tried lately: wait",
    world(switched, {
      ...renewed,
      told: toldOf(newer),
      notServed: { version: "v-new", since: 0, detail: "" },
      ...gatedUntil("serve", start + 20 * day + 1000),
    }),
    "wait",
  ],
  [
    "installed, not served, time to try: tell",
    world(
      { ...switched, now: start + 20 * day + 1000 },
      {
        ...renewed,
        told: toldOf(newer),
        notServed: { version: "v-new", since: 0, detail: "" },
        ...gatedUntil("serve", start + 20 * day + 1000),
      },
    ),
    "tell",
  ],
  [
    "a CRL with other revocations is installed: tell",
    world({
      desired: desiredOf(old, { crlNumbers: { ca: 6 }, revoked: "one" }),
      installed: installedOf(old, { crlNumbers: { ca: 6 } }),
    }),
    "tell",
  ],
  [
    "a CRL that is only fresher is installed: wait",
    world({
      desired: desiredOf(old, { crlNumbers: { ca: 6 } }),
      installed: installedOf(old, { crlNumbers: { ca: 6 } }),
    }),
    "wait",
  ],
  [
    "a fresher CRL, the loaded one is half over: tell",
    world({
      now: start + 8 * day,
      desired: desiredOf(old, { crlNumbers: { ca: 6 } }),
      installed: installedOf(old, { crlNumbers: { ca: 6 } }),
    }),
    "tell",
  ],
  ["the new leaf is served: promote it", world(switched, loaded), "promote"],
  [
    "the new leaf is served, the service was down: wait",
    world(switched, { ...loaded, ...gatedUntil("report", start + 20 * day + 1000) }),
    "wait",
  ],
  [
    "the new leaf spoke before a crash: promote it",
    world(switched, { ...renewed, nextUsed: true, told: toldOf(newer), served: servedOf(newer) }),
    "promote",
  ],
  [
    "the old leaf is about to expire, the new one is not served: promote it",
    world(
      { ...switched, now: start + 30 * day - 60_000 },
      {
        ...renewed,
        told: toldOf(newer),
        notServed: { version: "v-new", since: 0, detail: "" },
        ...gatedUntil("serve", start + 31 * day),
      },
    ),
    "promote",
  ],
  [
    "the first leaf is not served: promote it, nobody else can speak",
    world(switched, {
      current: null,
      next: newer,
      told: toldOf(newer),
      served: null,
      notServed: { version: "v-new", since: 0, detail: "" },
      ...gatedUntil("serve", start + 21 * day),
    }),
    "promote",
  ],
  [
    "the new set broke the proxy: go back",
    world({ ...switched, installed: installedOf(newer, { quarantined: true }), canGoBack: true }, renewed),
    "roll-back",
  ],
  [
    "the new set broke the proxy and the old leaf is over: put the new one there again",
    world({ ...switched, installed: installedOf(newer, { quarantined: true }) }, renewed),
    "install",
  ],
  [
    "there was no way back: put the set there again",
    world(
      { ...switched, installed: installedOf(newer, { quarantined: true }), canGoBack: true },
      { ...renewed, stuck: "v-new" },
    ),
    "install",
  ],
  ["something to tell the service: report", world({ report: { due: true, at: start } }), "report"],
  ["nothing was reported for long: report", world({ report: { due: false, at: start } }), "report"],
  ["not looked for long: look", world({ lookedAt: start }), "look"],
  ["not looked for long, but nothing is probed: wait", world({ lookedAt: start, probed: false }), "wait"],
  [
    "the bundle was not asked for since yesterday: fetch it",
    world({ trust: { held: true, outdated: false, checkedAt: start } }),
    "refresh-trust",
  ],
  ["the window was not asked for since yesterday: ask", world({ windowCheckedAt: start }), "refresh-window"],
  [
    "a retry noted by a clock that was wrong: do not wait for it",
    world({ now: start + 24 * day }, gatedUntil("ask", start + 4000 * day)),
    "renew",
  ],
  ["a timer noted by a clock that was wrong: do not wait for it", world({ lookedAt: start + 4000 * day }), "look"],
  [
    "late, and everything failed: the most urgent of what is due",
    world({ now: late, report: { due: true, at: start }, lookedAt: start }),
    "renew",
  ],
];

testDecisions(table);

test("it never waits past the end of the leaf", () => {
  const decision = decide(world({ now: start + 24 * day }, gatedUntil("ask", start + 29 * day)));
  assert.equal(decision.action, "renew", "a retry that far away is not believed");
  const near = decide(
    world(
      { now: old.notAfter - 5000, report: { due: false, at: old.notAfter - 5000 } },
      gatedUntil("ask", old.notAfter + 60_000),
    ),
  );
  assert.ok(near.at <= old.notAfter);
});

test("renewal is at its hash point in the window, and two identities have two", () => {
  const { window } = old;
  const other = { ...old, identity: "gateway-2" };
  assert.equal(renewalDue(old, null), renewalPoint(window, "gateway-1"));
  assert.ok(renewalDue(old, null) >= window.start && renewalDue(old, null) < window.end);
  assert.notEqual(renewalDue(old, null), renewalDue(other, null));
});

test("a window that was moved into the future is waited for at its point, one in the past means now", () => {
  const future = { start: start + 5 * day, end: start + 6 * day, learnedAt: start + day, moved: true };
  assert.equal(renewalDue(old, future), renewalPoint(future, "gateway-1"));
  assert.equal(renewalDue(old, { ...future, start: start + day - 1 }), start + day);
});

test("no window puts renewal off beyond nine tenths of the leaf's life", () => {
  const never = { start: start + 29.9 * day, end: start + 400 * day, learnedAt: start, moved: true };
  assert.equal(renewalDue(old, never), start + 27 * day);
});

test("fifteen seconds of life are kept in a rhythm of seconds, a month in one of minutes", () => {
  const short = paceOf(leaf("short", start, 15_000), false);
  assert.ok(short.tick <= 750 && short.window <= 1000 && short.margin === 1500);
  const long = paceOf(old, false);
  assert.deepEqual([long.tick, long.look, long.margin], [30_000, 300_000, 3_600_000]);
  assert.equal(paceOf(old, true).trust, 6 * 3_600_000, "polls are rare while the feed is connected");
});

test("needsTelling is true for whatever changes what the proxy does, and for a CRL of half its life", () => {
  const desired = desiredOf(old);
  assert.equal(needsTelling(null, desired, start), true);
  assert.equal(needsTelling(toldOf(old), desired, start), false);
  for (const change of [{ fingerprint: "x" }, { bundleVersion: 0 }, { revoked: "x" }]) {
    assert.equal(needsTelling(toldOf(old, change), desired, start), true, JSON.stringify(change));
  }
  const fresher = desiredOf(old, { crlNumbers: { ca: 6 } });
  assert.equal(needsTelling(toldOf(old), fresher, start + 6 * day), false);
  assert.equal(needsTelling(toldOf(old), fresher, start + 7 * day), true);
});
