/** A host, a service and a proxy in memory, for the agent's decisions: what its acting half would do, in a line each. */
import assert from "node:assert/strict";
import { kindOf } from "../../agent-client/agent.ts";
import { retryAt } from "../../agent-client/backoff.ts";
import {
  decide,
  type Action,
  type Decision,
  type Desired,
  type InstalledNow,
  needsTelling,
  isAsDesired,
  type World,
} from "../../agent-client/decide.ts";
import {
  deadlineOf,
  blankJournal,
  fresh,
  type HeldLeaf,
  type Journal,
  newestLeaf,
  type RetryKind,
} from "../../agent-client/journal.ts";
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
  /** Leaf the proxy presents. */
  presented: string | null;
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

function desiredOf(sim: Simulation): Desired | null {
  const leaf = newestLeaf(sim.journal);
  if (leaf === null || leaf.notAfter <= sim.now || sim.held === null) return null;
  return {
    contents: `${leaf.fingerprint} ${sim.held.version} ${sim.held.crl}`,
    fingerprint: leaf.fingerprint,
    notAfter: leaf.notAfter,
    bundleVersion: sim.held.version,
    crlNumbers: { ca: sim.held.crl },
    revoked: `${sim.held.crl >> 3}`,
    refreshAt: sim.now + sim.life,
  };
}

function worldOf(sim: Simulation): World {
  const { journal, installed } = sim;
  const canGoBack =
    installed !== null &&
    installed.quarantined &&
    journal.served !== null &&
    journal.served.version !== installed.version &&
    journal.served.notAfter > sim.now;
  const report = `${installed?.fingerprint} ${journal.notServed === null} ${sim.presented}`;
  return {
    now: sim.now,
    journal,
    desired: desiredOf(sim),
    installed,
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

function fail(sim: Simulation, kind: RetryKind): void {
  const failures = sim.journal.retries[kind].failures + 1;
  const deadline = deadlineOf(sim.journal, sim.now);
  const notBefore = retryAt({ now: sim.now, failures, baseMs: 30_000, capMs: hour, deadline, random: sim.random() });
  sim.journal.retries = { ...sim.journal.retries, [kind]: { failures, notBefore, error: null } };
}

function succeed(sim: Simulation, ...kinds: RetryKind[]): void {
  for (const kind of kinds) sim.journal.retries = { ...sim.journal.retries, [kind]: fresh };
}

/** What the acting half does, in a line each. `works` false: whatever it needs does not answer, or harms. */
function act(sim: Simulation, action: Exclude<Action, "wait">, works: boolean): void {
  const { journal } = sim;
  const kind = kindOf[action];
  const { installed } = sim;
  if (!works && action !== "tell" && action !== "look") return fail(sim, kind);
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
    case "install": {
      const desired = desiredOf(sim);
      assert.ok(desired, "nothing to install");
      sim.versions += 1;
      const { fingerprint, notAfter, bundleVersion, crlNumbers } = desired;
      const version = `v${sim.versions}`;
      sim.installed = {
        version,
        fingerprint,
        notAfter,
        bundleVersion,
        crlNumbers,
        complete: true,
        keyMatches: true,
        quarantined: false,
      };
      journal.stuck = null;
      journal.retries = { ...journal.retries, install: { ...fresh, failures: journal.retries.install.failures } };
      return succeed(sim, "serve");
    }
    case "tell":
      return tell(sim, works);
    case "roll-back": {
      const back = journal.served;
      assert.ok(back && installed);
      sim.installed = {
        ...installed,
        version: back.version,
        fingerprint: back.fingerprint,
        notAfter: back.notAfter,
        quarantined: false,
      };
      sim.presented = back.fingerprint;
      journal.told = null;
      journal.notServed = null;
      return;
    }
    case "look":
      sim.lookedAt = sim.now;
      if (works && sim.presented === installed?.fingerprint) return;
      journal.notServed = { version: installed?.version ?? "", since: sim.now, detail: "" };
      return succeed(sim, "serve");
    case "promote":
    case "report":
      sim.reportedAt = sim.now;
      sim.reported = `${installed?.fingerprint} ${journal.notServed === null} ${sim.presented}`;
      succeed(sim, "report");
      if (action !== "promote" || journal.next === null) return;
      journal.current = journal.next;
      journal.next = null;
      journal.nextUsed = false;
      journal.window = null;
  }
}

function tell(sim: Simulation, works: boolean): void {
  const { journal, installed } = sim;
  const desired = desiredOf(sim);
  assert.ok(installed && desired);
  if (works) {
    const { version, fingerprint, bundleVersion, crlNumbers, notAfter } = installed;
    journal.told = {
      version,
      fingerprint,
      bundleVersion,
      crlNumbers,
      revoked: desired.revoked,
      refreshAt: desired.refreshAt,
    };
    journal.served = { version, fingerprint, notAfter, at: sim.now };
    journal.notServed = null;
    sim.presented = fingerprint;
    sim.lookedAt = sim.now;
    return succeed(sim, "serve", "install");
  }
  // Half of the failures break a proxy that was well.
  const broke =
    sim.random() < 0.5 &&
    journal.served !== null &&
    journal.served.version !== installed.version &&
    journal.served.notAfter > sim.now;
  if (broke) {
    sim.installed = { ...installed, quarantined: true };
    fail(sim, "install");
    return succeed(sim, "serve");
  }
  journal.notServed = { version: installed.version, since: sim.now, detail: "" };
  fail(sim, "serve");
}

/** Runs until `until`. @returns the actions taken */
export function run(
  sim: Simulation,
  until: number,
  works: (action: Action) => boolean,
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
  const desired = desiredOf(sim);
  assert.ok(journal.current && journal.current.notAfter > sim.now, "a leaf in date is in force");
  assert.equal(journal.next, null, "nothing is half done");
  assert.ok(desired && isAsDesired(installed, desired), "what should be on disk is");
  assert.equal(needsTelling(journal.told, desired, sim.now), false, "the proxy was told");
  assert.equal(journal.notServed, null);
  assert.equal(journal.served?.fingerprint, journal.current.fingerprint, "and serves it");
  assert.equal(sim.presented, journal.current.fingerprint);
}
