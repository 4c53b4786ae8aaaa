/**
 * What to do next for one certificate. PURE: it looks at what is (leaves held, files on disk, the handshake last made), at the time
 * and at nothing else, and returns one action with its reason. The caller acts, records what happened and asks again, so that a
 * crash, a clock that jumped or a human who changed the files all end in the same question.
 *
 * The table of its answers is test/unit/agent-client/decide.test.ts; that it always converges is
 * test/property/agent-client/decide.test.ts.
 */
import { renewalPoint } from "@newleaf/shared/renewal-point";
import { longestPauseMs } from "./backoff.ts";
import type { Installed } from "./install/installed.ts";
import { type HeldLeaf, type Journal, newestLeaf, type RetryKind, type Told, type Window } from "./journal.ts";

/** What should be on disk: the newest leaf held, with the trust bundle and the CRLs held. */
export interface Desired {
  /** Says everything that makes one set differ from another. */
  readonly contents: string;
  readonly fingerprint: string;
  readonly notAfter: number;
  readonly bundleVersion: number;
  readonly crlNumbers: Readonly<Record<string, number>>;
  /** Digest of what the CRLs revoke; "" when the proxy gets none. */
  readonly revoked: string;
  /** Half of the life of the CRL that ends first. */
  readonly refreshAt: number;
}

export type InstalledNow = Pick<
  Installed,
  "version" | "fingerprint" | "notAfter" | "bundleVersion" | "crlNumbers" | "complete" | "quarantined" | "keyMatches"
>;

export interface World {
  readonly now: number;
  readonly journal: Pick<
    Journal,
    "current" | "next" | "nextUsed" | "window" | "request" | "told" | "served" | "notServed" | "stuck" | "retries"
  >;
  /** Null until there are a leaf and a trust bundle. */
  readonly desired: Desired | null;
  readonly installed: InstalledNow | null;
  /** The last good set can be served again: its leaf is in date and not revoked. */
  readonly canGoBack: boolean;
  readonly trust: {
    /** There is a bundle. */
    readonly held: boolean;
    /** The service has announced something newer than what is held. */
    readonly outdated: boolean;
    readonly checkedAt: number | null;
  };
  readonly windowCheckedAt: number | null;
  readonly lookedAt: number | null;
  /** The change feed is connected, so that polls may be rare. */
  readonly feedAlive: boolean;
  /** There is something the service has not been told; and when it was last told anything. */
  readonly report: { readonly due: boolean; readonly at: number | null };
  /** The proxy is probed at all. */
  readonly probed: boolean;
  /** A human asked for a renewal now. */
  readonly forced: boolean;
}

export type Action =
  | "enroll"
  | "renew"
  | "refresh-trust"
  | "refresh-window"
  | "install"
  | "roll-back"
  | "tell"
  /** The report that is the new leaf's first use. */
  | "promote"
  | "report"
  | "look"
  | "wait";

export interface Decision {
  readonly action: Action;
  readonly reason: string;
  /** For `wait`: when to ask again at the latest. Else now. */
  readonly at: number;
  /** For `wait`: what comes then. */
  readonly next?: Exclude<Action, "wait">;
}

/** How often things are looked at, in proportion to a leaf's life: a month or fifteen seconds. Milliseconds. */
export interface Pace {
  readonly trust: number;
  readonly window: number;
  readonly look: number;
  readonly report: number;
  /** Longest sleep: wall time is looked at again at least this often, because hosts sleep and clocks step. */
  readonly tick: number;
  /** How long before its end a leaf is "about to expire". */
  readonly margin: number;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const defaultLife = 30 * 24 * hour;
/** No retry and no timer reaches further; whatever says so was written by a clock that was wrong. */
const furthest = longestPauseMs + hour;
/** Of a leaf's life; whatever window the service names, renewal begins no later. */
const latestRenewal = 0.9;

export function paceOf(leaf: Pick<HeldLeaf, "receivedAt" | "notAfter"> | null, feedAlive: boolean): Pace {
  const life = leaf === null ? defaultLife : Math.max(second, leaf.notAfter - leaf.receivedAt);
  const share = (part: number, least: number, most: number): number => Math.min(most, Math.max(least, life / part));
  return {
    trust: feedAlive ? share(10, 5 * second, 6 * hour) : share(50, 2 * second, 15 * minute),
    window: feedAlive ? share(10, 5 * second, 12 * hour) : share(30, second, 6 * hour),
    look: share(100, 5 * second, 5 * minute),
    report: share(30, 5 * second, 6 * hour),
    tick: share(20, 200, 30 * second),
    margin: share(10, 0, hour),
  };
}

/** When a leaf renews: at its point in the window, at once when the service moved the window into the past, and never too late. */
export function renewalDue(leaf: HeldLeaf, window: Window | null): number {
  const wanted = window ?? leaf.window;
  const isNow = wanted.moved && wanted.start <= wanted.learnedAt;
  const point = isNow ? wanted.learnedAt : renewalPoint(wanted, leaf.identity);
  return Math.min(point, leaf.receivedAt + latestRenewal * (leaf.notAfter - leaf.receivedAt));
}

interface Candidate {
  readonly action: Exclude<Action, "wait">;
  readonly reason: string;
  readonly at: number;
}

/** The first thing in order of urgency whose time has come; else to wait for the one whose time comes first. */
export function decide(world: World): Decision {
  const open = candidates(world);
  const due = open.find((candidate) => candidate.at <= world.now);
  if (due !== undefined) return { action: due.action, reason: due.reason, at: world.now };
  const first = open.reduce<Candidate | null>((a, b) => (a === null || b.at < a.at ? b : a), null);
  if (first === null) return { action: "wait", reason: "nothing to do", at: world.now + minute };
  return { action: "wait", reason: first.reason, at: first.at, next: first.action };
}

/** In order of urgency. */
function candidates(world: World): readonly Candidate[] {
  const { journal, trust } = world;
  const newest = newestLeaf(journal);
  const pace = paceOf(newest, world.feedAlive);
  return [
    ...goingBack(world),
    ...asking(world),
    ...(trust.held && !trust.outdated ? [] : [gated(world, "trust", "refresh-trust", trustReason(world))]),
    ...speakingUp(world, pace),
    ...installing(world),
    ...telling(world),
    ...reporting(world, pace),
    ...(trust.held ? [later(world, "trust", "refresh-trust", trust.checkedAt, pace.trust)] : []),
    ...(journal.current === null || journal.next !== null || isOver(journal.current, world.now)
      ? []
      : [later(world, "window", "refresh-window", world.windowCheckedAt, pace.window)]),
    ...looking(world, pace),
  ];
}

function goingBack(world: World): readonly Candidate[] {
  const { installed, canGoBack, journal } = world;
  if (installed === null || !installed.quarantined || !canGoBack || journal.stuck === installed.version) return [];
  return [gated(world, "serve", "roll-back", "the set on disk broke the proxy")];
}

function asking(world: World): readonly Candidate[] {
  const { now, journal, forced } = world;
  const newest = newestLeaf(journal);
  if (newest === null) return [gated(world, "ask", "enroll", "no certificate yet")];
  if (isOver(newest, now)) return [gated(world, "ask", "enroll", "the certificate has expired")];
  const expiry: Candidate = { action: "enroll", reason: "the certificate expires", at: newest.notAfter };
  if (journal.current === null || isOver(journal.current, now)) return [expiry];
  if (forced) return [{ action: "renew", reason: "asked for", at: now }, expiry];
  if (journal.next !== null) return [expiry];
  // The answer to a request that was begun may be waiting.
  if (journal.request?.kind === "renewal") return [gated(world, "ask", "renew", "a renewal was begun"), expiry];
  const due = renewalDue(journal.current, journal.window);
  const at = Math.max(due, gate(world, "ask"));
  return [{ action: "renew", reason: "the renewal window is reached", at }, expiry];
}

/** The old leaf is about to expire: the new one must speak, served or not. */
function speakingUp(world: World, pace: Pace): readonly Candidate[] {
  const { journal } = world;
  if (journal.next === null || journal.current === null || journal.nextUsed) return [];
  const at = Math.max(journal.current.notAfter - pace.margin, gate(world, "report"));
  return [{ action: "promote", reason: "the old certificate is about to expire", at }];
}

function installing(world: World): readonly Candidate[] {
  const { desired, installed } = world;
  if (desired === null || isAsDesired(installed, desired)) return [];
  // A way back that is about to be taken goes first; and a quarantined set without a way back is replaced like any other.
  const reason =
    installed === null
      ? "nothing is installed"
      : installed.fingerprint !== desired.fingerprint
        ? "a newer certificate is held"
        : !installed.complete || !installed.keyMatches
          ? "the files on disk are not as they should be"
          : installed.quarantined
            ? "the set on disk broke the proxy"
            : "trust bundle or CRLs have changed";
  return [gated(world, "install", "install", reason)];
}

function telling(world: World): readonly Candidate[] {
  const { desired, installed, journal, now } = world;
  if (desired === null || installed === null || !isAsDesired(installed, desired)) return [];
  if (needsTelling(journal.told, desired, now)) {
    return [gated(world, "serve", "tell", "the proxy has to load it")];
  }
  if (journal.notServed !== null || journal.served?.fingerprint !== installed.fingerprint) {
    return [gated(world, "serve", "tell", "installed, not served")];
  }
  if (journal.told === null || sameNumbers(journal.told.crlNumbers, desired.crlNumbers)) return [];
  return [{ action: "tell", reason: "the loaded CRL has half of its life behind it", at: journal.told.refreshAt }];
}

function reporting(world: World, pace: Pace): readonly Candidate[] {
  const { journal, report, now } = world;
  const { current, next } = journal;
  if (current === null && next === null) return [];
  if (next !== null && !isOver(next, now)) {
    // The first leaf of all has nobody else to speak for it; any other speaks once it is served.
    if (current === null || isOver(current, now) || journal.nextUsed) {
      return [gated(world, "report", "promote", "the new certificate is in force from its first use")];
    }
    if (journal.served?.fingerprint === next.fingerprint && journal.notServed === null) {
      return [gated(world, "report", "promote", "the new certificate is served")];
    }
  }
  if (current === null || isOver(current, now)) return [];
  if (report.due) return [gated(world, "report", "report", "something changed that the service should know")];
  return [later(world, "report", "report", report.at, pace.report)];
}

function looking(world: World, pace: Pace): readonly Candidate[] {
  const { probed, installed, journal, lookedAt } = world;
  if (!probed || installed === null || journal.notServed !== null || journal.served === null) return [];
  return [{ action: "look", reason: "is it still served", at: after(world.now, lookedAt, pace.look) }];
}

/** Whether the files on disk are the set that should be there. */
export function isAsDesired(installed: InstalledNow | null, desired: Desired): boolean {
  return (
    installed !== null &&
    installed.complete &&
    installed.keyMatches &&
    !installed.quarantined &&
    installed.fingerprint === desired.fingerprint &&
    installed.bundleVersion === desired.bundleVersion &&
    sameNumbers(installed.crlNumbers, desired.crlNumbers)
  );
}

/** A CRL that only got fresher is not worth a reload before half of the life of the loaded one is gone. */
export function needsTelling(told: Told | null, desired: Desired, now: number): boolean {
  if (told === null) return true;
  const changed =
    told.fingerprint !== desired.fingerprint ||
    told.bundleVersion !== desired.bundleVersion ||
    told.revoked !== desired.revoked;
  return changed || (now >= told.refreshAt && !sameNumbers(told.crlNumbers, desired.crlNumbers));
}

function sameNumbers(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): boolean {
  const ids = Object.keys(a);
  return ids.length === Object.keys(b).length && ids.every((id) => a[id] === b[id]);
}

function trustReason({ trust }: World): string {
  return trust.held ? "the service has a newer bundle or CRL" : "no trust bundle yet";
}

function isOver(leaf: HeldLeaf, now: number): boolean {
  return leaf.notAfter <= now;
}

/** Now, unless it failed lately. */
function gated(world: World, kind: RetryKind, action: Candidate["action"], reason: string): Candidate {
  return { action, reason, at: gate(world, kind) };
}

/** Every so often after `last`, and not before a retry is allowed. */
function later(
  world: World,
  kind: RetryKind,
  action: Candidate["action"],
  last: number | null,
  every: number,
): Candidate {
  return { action, reason: "time to look again", at: Math.max(after(world.now, last, every), gate(world, kind)) };
}

function gate(world: World, kind: RetryKind): number {
  const { notBefore } = world.journal.retries[kind];
  return notBefore - world.now > furthest ? world.now : Math.max(notBefore, world.now);
}

/** `last` in the future was written by a clock that was wrong. */
function after(now: number, last: number | null, every: number): number {
  return last === null || last > now ? now : last + every;
}
