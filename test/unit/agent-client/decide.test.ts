/** The table of what the agent does next, every row named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalPoint } from "@newleaf/shared/renewal-point";
import { type Desired, type InstalledNow, needsTelling } from "../../../agent-client/choice.ts";
import { type Action, decide, renewalDue, type World } from "../../../agent-client/decide.ts";
import { blankJournal, type HeldLeaf, type Journal, type RetryKind, type Told } from "../../../agent-client/journal.ts";
import { paceOf } from "../../../agent-client/pace.ts";
import { held } from "../../support/held-leaf.ts";

const day = 86_400_000;
const start = Date.UTC(2026, 10, 20);

function leaf(name: string, receivedAt = start, life = 30 * day): HeldLeaf {
  const window = {
    start: receivedAt + life * 0.66,
    end: receivedAt + life * 0.76,
    learnedAt: receivedAt,
    moved: false,
  };
  return held(name, { receivedAt, notBefore: receivedAt, notAfter: receivedAt + life, window });
}

const desiredOf = (held: HeldLeaf, change: Partial<Desired> = {}): Desired => ({
  contents: `${held.fingerprint} 1`,
  fingerprint: held.fingerprint,
  notAfter: held.notAfter,
  bundleVersion: 1,
  crlNumbers: { ca: 5 },
  revoked: "none",
  refreshAt: start + 7 * day,
  crlsUntil: start + 14 * day,
  ...change,
});

const installedOf = (held: HeldLeaf, change: Partial<InstalledNow> = {}): InstalledNow => ({
  version: `v-${held.fingerprint}`,
  fingerprint: held.fingerprint,
  notAfter: held.notAfter,
  bundleVersion: 1,
  crlNumbers: { ca: 5 },
  complete: true,
  keyMatches: true,
  quarantined: false,
  ...change,
});

const toldOf = (held: HeldLeaf, change: Partial<Told> = {}): Told => ({
  version: `v-${held.fingerprint}`,
  fingerprint: held.fingerprint,
  bundleVersion: 1,
  revoked: "none",
  crlNumbers: { ca: 5 },
  refreshAt: start + 7 * day,
  ...change,
});

const old = leaf("old");
const newer = leaf("new", start + 20 * day);
const servedOf = (held: HeldLeaf) => ({
  version: `v-${held.fingerprint}`,
  fingerprint: held.fingerprint,
  notAfter: held.notAfter,
  at: start,
});

const calm: Journal = { ...blankJournal, current: old, told: toldOf(old), served: servedOf(old) };

/** All is well on the first day: the old leaf is installed, served and reported. */
function world(change: Partial<Omit<World, "journal">> = {}, journal: Partial<Journal> = {}): World {
  const now = change.now ?? start + day;
  return {
    now,
    journal: { ...calm, ...journal },
    desired: desiredOf(old),
    fallback: null,
    installed: installedOf(old),
    revoked: false,
    beforeSwitch: null,
    canGoBack: false,
    trust: { held: true, outdated: false, checkedAt: now },
    windowCheckedAt: now,
    lookedAt: now,
    feedAlive: true,
    report: { due: false, at: now },
    probed: true,
    forced: false,
    ...change,
  };
}

function gatedUntil(kind: RetryKind, notBefore: number): Pick<Journal, "retries"> {
  return { retries: { ...calm.retries, [kind]: { failures: 3, notBefore, error: null } } };
}

const late = start + 29 * day;
const renewed = { next: newer };
const switched = { desired: desiredOf(newer), installed: installedOf(newer), now: start + 20 * day };
const loaded = { ...renewed, told: toldOf(newer), served: servedOf(newer) };

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

const table: readonly (readonly [name: string, world: World, action: Action])[] = [
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

  ["all is well: wait", world(), "wait"],
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

for (const [name, given, action] of table) {
  test(name, () => {
    const decision = decide(given);
    assert.equal(decision.action, action, decision.reason);
    assert.ok(decision.reason.length > 3);
    if (action === "wait") assert.ok(decision.at > given.now, "waits for something to come");
  });
}

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
