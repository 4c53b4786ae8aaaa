/** A host, a service and a proxy in memory, for the agent's decisions: what its acting half would do, in a line each. */
import assert from "node:assert/strict";
import { kindOf } from "../../agent-client/agent.ts";
import { retryAt } from "../../agent-client/decide/backoff.ts";
import {
  chooseSet,
  clientsOf,
  type Desired,
  type InstalledNow,
  isAsDesired,
  needsTelling,
} from "../../agent-client/decide/choice.ts";
import { decide, type Action, type Decision, type World } from "../../agent-client/decide/decide.ts";
import { deadlineOf, newestLeaf } from "../../agent-client/decide/leaves.ts";
import {
  blankJournal,
  fresh,
  type HeldLeaf,
  type Journal,
  type RetryKind,
  type Told,
} from "../../agent-client/journal.ts";
import { type Aftermath, blame, judge, type Sight } from "../../agent-client/decide/rollback.ts";
import { held } from "./held-leaf.ts";

export const start = Date.UTC(2026, 10, 20);
export const hour = 3_600_000;
export const day = 24 * hour;

/** More than any honest sequence between two sleeps. */
const maxActionsInARow = 30;

export interface Simulation {
  now: number;
  life: number;
  journal: { -readonly [Key in keyof Journal]: Journal[Key] };
  installed: InstalledNow | null;
  trustVersion: number;
  crlNumber: number;
  held: { version: number; crl: number } | null;
  lookedAt: number | null;
  windowCheckedAt: number | null;
  trustCheckedAt: number | null;
  reportedAt: number | null;
  reported: string;
  serial: number;
  issued: number;
  versions: number;
  /** Leaf the proxy presents; null: nobody listens. */
  presented: string | null;
  /** Just before the last switch the proxy presented what was last seen served. */
  healthy: boolean;
  /** How long clients get to learn of the next leaf; null: they are not told. */
  waitMs: number | null;
  /** When each leaf was first installed, and which ones the service had heard of before. */
  switchedAt: Map<string, number>;
  reportedNext: Set<string>;
  /** Every version ever made, for the way back. */
  disk: Map<string, InstalledNow>;
  random: () => number;
}

export { blankJournal };

export function newLeaf(sim: Simulation): HeldLeaf {
  sim.serial += 1;
  const window = {
    start: sim.now + sim.life * 0.667,
    end: sim.now + sim.life * 0.767,
    learnedAt: sim.now,
    moved: false,
  };
  const name = `leaf-${sim.serial}`;
  return held(name, { receivedAt: sim.now, notBefore: sim.now, notAfter: sim.now + sim.life, window });
}

function setOf(sim: Simulation, leaf: HeldLeaf | null): Desired | null {
  if (leaf === null || leaf.notAfter <= sim.now || sim.held === null) return null;
  return {
    contents: `${leaf.fingerprint} ${sim.held.version} ${sim.held.crl}`,
    fingerprint: leaf.fingerprint,
    notAfter: leaf.notAfter,
    bundleVersion: sim.held.version,
    crlNumbers: { ca: sim.held.crl },
    revoked: `${sim.held.crl >> 3}`,
    refreshAt: sim.now + sim.life,
    crlsUntil: sim.now + sim.life,
  };
}

export function worldOf(sim: Simulation): World {
  const { journal, installed } = sim;
  const canGoBack = installed !== null && installed.quarantined && hasWayBack(sim, installed);
  const isOlder = journal.next !== null && journal.current?.fingerprint === installed?.fingerprint;
  const report = reportOf(sim);
  return {
    now: sim.now,
    journal,
    desired: setOf(sim, newestLeaf(journal)),
    fallback: isOlder ? setOf(sim, journal.current) : null,
    installed,
    revoked: false,
    beforeSwitch: sim.waitMs === null ? null : { waitMs: sim.waitMs },
    canGoBack,
    trust: {
      held: sim.held !== null,
      outdated: sim.held !== null && sim.held.crl < sim.crlNumber,
      checkedAt: sim.trustCheckedAt,
    },
    windowCheckedAt: sim.windowCheckedAt,
    lookedAt: sim.lookedAt,
    feedAlive: false,
    report: { due: report !== sim.reported, at: sim.reportedAt },
    probed: true,
    forced: false,
  };
}

function reportOf({ installed, journal, presented }: Simulation): string {
  const newest = newestLeaf(journal)?.fingerprint;
  const next = newest === installed?.fingerprint ? "" : newest;
  return `${installed?.fingerprint} ${next} ${journal.notServed === null} ${presented}`;
}

function hasWayBack({ journal, now }: Simulation, installed: InstalledNow): boolean {
  const { served } = journal;
  return served !== null && served.version !== installed.version && served.notAfter > now;
}

function fail(sim: Simulation, kind: RetryKind): void {
  const failures = sim.journal.retries[kind].failures + 1;
  const deadline = deadlineOf(sim.journal, sim.now);
  const notBefore = retryAt({ now: sim.now, failures, baseMs: 30_000, capMs: hour, deadline, random: sim.random() });
  sim.journal.retries = { ...sim.journal.retries, [kind]: { failures, notBefore, error: null } };
}

function succeed(sim: Simulation, ...kinds: RetryKind[]): void {
  for (const kind of kinds) sim.journal.retries = { ...sim.journal.retries, [kind]: fresh };
}

/** What the acting half does, in a line each. `works` false: whatever it needs does not answer, or harms; a sight: what is seen. */
function act(sim: Simulation, action: Exclude<Action, "wait">, works: boolean | Sight): void {
  const { journal } = sim;
  const kind = kindOf[action];
  const { installed } = sim;
  if (works !== true && action !== "tell" && action !== "look") return fail(sim, kind);
  switch (action) {
    case "enroll":
    case "renew":
      journal.next = newLeaf(sim);
      journal.nextUsed = false;
      journal.request = null;
      if (action === "enroll") journal.current = null;
      sim.issued += 1;
      return succeed(sim, "ask", "install");
    case "refresh-trust":
      sim.held = { version: sim.trustVersion, crl: sim.crlNumber };
      sim.trustCheckedAt = sim.now;
      return succeed(sim, "trust");
    case "refresh-window":
      sim.windowCheckedAt = sim.now;
      return succeed(sim, "window");
    case "announce": {
      const { desired } = worldOf(sim);
      assert.ok(desired && sim.waitMs !== null, "nothing to announce");
      journal.announced = { fingerprint: desired.fingerprint, at: sim.now };
      return succeed(sim, "announce");
    }
    case "install":
      return install(sim);
    case "tell":
      return tell(sim, works);
    case "roll-back": {
      const back = journal.served;
      assert.ok(back && installed);
      assert.ok(back.notAfter > sim.now, "back to a leaf that is over");
      const { version, fingerprint, notAfter } = back;
      const whole = { complete: true, keyMatches: true, quarantined: false };
      const known = sim.disk.get(version) ?? { ...installed, version, fingerprint, notAfter };
      sim.installed = { ...known, ...whole };
      sim.presented = fingerprint;
      journal.told = back.told === undefined ? null : { ...back.told, version };
      journal.notServed = null;
      return;
    }
    case "look":
      sim.lookedAt = sim.now;
      if (works === true && sim.presented === installed?.fingerprint) return;
      journal.notServed = { version: installed?.version ?? "", since: sim.now, detail: "" };
      return succeed(sim, "serve");
    case "promote":
    case "report":
      sim.reportedAt = sim.now;
      sim.reported = reportOf(sim);
      if (newestLeaf(journal)?.fingerprint !== installed?.fingerprint)
        sim.reportedNext.add(newestLeaf(journal)?.fingerprint ?? "");
      succeed(sim, "report");
      if (action !== "promote" || journal.next === null) return;
      journal.current = journal.next;
      journal.next = null;
      journal.nextUsed = false;
      journal.window = null;
  }
}

function install(sim: Simulation): void {
  const { journal } = sim;
  const set = chooseSet(worldOf(sim));
  assert.ok(set, "nothing to install");
  sim.versions += 1;
  const { fingerprint, notAfter, bundleVersion, crlNumbers } = set;
  const version = `v${sim.versions}`;
  sim.healthy = journal.served !== null && sim.presented === journal.served.fingerprint;
  const made = { version, fingerprint, notAfter, bundleVersion, crlNumbers };
  sim.installed = { ...made, complete: true, keyMatches: true, quarantined: false };
  sim.disk.set(version, sim.installed);
  if (!sim.switchedAt.has(fingerprint)) sim.switchedAt.set(fingerprint, sim.now);
  journal.stuck = null;
  succeed(sim, "serve", "install", "announce");
  const { told, served, notServed } = journal;
  if (needsTelling(told, set, sim.now) || notServed !== null || served?.fingerprint !== fingerprint) return;
  journal.served = { ...served, version };
}

const harms: readonly Sight[] = [
  "broken",
  "dead",
  "unverified",
  "unhealthy",
  "canary-refused",
  "canary-passed",
  "old",
  "other",
];

function tell(sim: Simulation, works: boolean | Sight): void {
  const { journal, installed } = sim;
  assert.ok(installed);
  const world = worldOf(sim);
  const chosen = chooseSet(world);
  const set = chosen !== null && isAsDesired(installed, chosen) ? chosen : null;
  const harm = harms[Math.floor(sim.random() * harms.length)] ?? "old";
  const sight = works === true ? "served" : works === false ? harm : works;
  const reload = works === true || sim.random() < 0.5 ? "ok" : sim.random() < 0.5 ? "refused" : "failed";
  const told = toldOf(installed, set, sim);
  if (reload === "ok") journal.told = told;
  if (sight === "dead") sim.presented = null;
  const before = journal.served?.told;
  const aftermath: Aftermath = {
    sight,
    reload,
    healthyBefore: sim.healthy,
    wayBack: hasWayBack(sim, installed) && journal.stuck !== installed.version,
    news: {
      leaf: journal.served?.fingerprint !== installed.fingerprint,
      clients: before !== undefined && clientsOf(before) !== clientsOf(installed),
      form: false,
    },
    olderCrlsValid: (before?.crlsUntil ?? 0) > sim.now,
  };
  const row = judge(aftermath);
  if (row.way === "commit") {
    const { version, fingerprint, notAfter } = installed;
    journal.told = told;
    journal.served = { version, fingerprint, notAfter, at: sim.now, told };
    journal.notServed = null;
    if (set !== null && set.contents === world.desired?.contents) {
      journal.quarantine = null;
      succeed(sim, "quarantine");
    }
    sim.presented = fingerprint;
    sim.lookedAt = sim.now;
    return succeed(sim, "serve", "install");
  }
  if (row.way === "swap-back") {
    sim.installed = { ...installed, quarantined: true };
    const culprit = blame(row, aftermath.news);
    const known = journal.quarantine;
    journal.quarantine = {
      version: installed.version,
      row: row.name,
      since: sim.now,
      detail: "",
      contents: set?.contents ?? null,
      leaf: culprit === "leaf" ? installed.fingerprint : (known?.leaf ?? null),
      clients: culprit === "clients" ? clientsOf(installed) : (known?.clients ?? null),
    };
    fail(sim, "quarantine");
    return succeed(sim, "serve");
  }
  journal.notServed = { version: installed.version, since: sim.now, detail: "", row: row.name };
  if (row.start) sim.presented = installed.fingerprint;
  fail(sim, "serve");
}

function toldOf(installed: InstalledNow, set: Desired | null, sim: Simulation): Told {
  const { version, fingerprint, bundleVersion, crlNumbers } = installed;
  const { revoked = "", refreshAt = 0, crlsUntil = sim.now + sim.life } = set ?? {};
  return { version, fingerprint, bundleVersion, crlNumbers, revoked, refreshAt, crlsUntil };
}

/** Runs until `until`. @returns the actions taken */
export function run(
  sim: Simulation,
  until: number,
  works: (action: Action) => boolean | Sight,
  onWait: (decision: Decision) => void,
): Action[] {
  const taken: Action[] = [];
  let inARow = 0;
  while (sim.now < until) {
    const world = worldOf(sim);
    const decision = decide(world);
    if (decision.action === "wait") {
      assert.ok(decision.at > sim.now, "waits for nothing");
      const newest = newestLeaf(sim.journal);
      if (newest !== null && newest.notAfter > sim.now)
        assert.ok(decision.at <= newest.notAfter, "waits past the end of the leaf");
      onWait(decision);
      inARow = 0;
      sim.now = Math.max(sim.now, Math.min(decision.at, until));
      continue;
    }
    inARow += 1;
    assert.ok(inARow <= maxActionsInARow, `in a circle: ${taken.slice(-8).join(", ")}`);
    taken.push(decision.action);
    act(sim, decision.action, works(decision.action));
    // Every act takes some time.
    sim.now += Math.min(20, sim.life / 1000);
  }
  return taken;
}

export function assertSettled(sim: Simulation): void {
  const { journal, installed } = sim;
  const desired = setOf(sim, newestLeaf(journal));
  assert.ok(journal.current && journal.current.notAfter > sim.now, "a leaf in date is in force");
  assert.equal(journal.next, null, "nothing is half done");
  assert.ok(desired && isAsDesired(installed, desired), "what should be on disk is");
  assert.equal(needsTelling(journal.told, desired, sim.now), false, "the proxy was told");
  assert.equal(journal.notServed, null);
  assert.equal(journal.served?.fingerprint, journal.current.fingerprint, "and serves it");
  assert.equal(sim.presented, journal.current.fingerprint);
}
