/** Worlds for tests of what the agent decides. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Desired, InstalledNow } from "../../agent-client/decide/choice.ts";
import { type Action, decide, type World } from "../../agent-client/decide/decide.ts";
import { blankJournal, type HeldLeaf, type Journal, type RetryKind, type Told } from "../../agent-client/journal.ts";
import { held } from "./held-leaf.ts";

export const day = 86_400_000;
export const start = Date.UTC(2026, 10, 20);

export function leaf(name: string, receivedAt = start, life = 30 * day): HeldLeaf {
  const window = {
    start: receivedAt + life * 0.66,
    end: receivedAt + life * 0.76,
    learnedAt: receivedAt,
    moved: false,
  };
  return held(name, { receivedAt, notBefore: receivedAt, notAfter: receivedAt + life, window });
}

export const desiredOf = (held: HeldLeaf, change: Partial<Desired> = {}): Desired => ({
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

export const installedOf = (held: HeldLeaf, change: Partial<InstalledNow> = {}): InstalledNow => ({
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

export const toldOf = (held: HeldLeaf, change: Partial<Told> = {}): Told => ({
  version: `v-${held.fingerprint}`,
  fingerprint: held.fingerprint,
  bundleVersion: 1,
  revoked: "none",
  crlNumbers: { ca: 5 },
  refreshAt: start + 7 * day,
  ...change,
});

export const old = leaf("old");
export const newer = leaf("new", start + 20 * day);
export const servedOf = (held: HeldLeaf) => ({
  version: `v-${held.fingerprint}`,
  fingerprint: held.fingerprint,
  notAfter: held.notAfter,
  at: start,
});

export const calm: Journal = { ...blankJournal, current: old, told: toldOf(old), served: servedOf(old) };

/** All is well on the first day: the old leaf is installed, served and reported. */
export function world(change: Partial<Omit<World, "journal">> = {}, journal: Partial<Journal> = {}): World {
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

export function gatedUntil(kind: RetryKind, notBefore: number): Pick<Journal, "retries"> {
  return { retries: { ...calm.retries, [kind]: { failures: 3, notBefore, error: null } } };
}

export type DecisionRow = readonly [name: string, world: World, action: Action];

/** One test for each row: the action, with a reason, and something to wait for. */
export function testDecisions(table: readonly DecisionRow[]): void {
  for (const [name, given, action] of table) {
    test(name, () => {
      const decision = decide(given);
      assert.equal(decision.action, action, decision.reason);
      assert.ok(decision.reason.length > 3);
      if (action === "wait") assert.ok(decision.at > given.now, "waits for something to come");
    });
  }
}
