/**
 * What to do next for one certificate. PURE: it looks at what is (leaves held, files on disk, the handshake last made), at the time
 * and at nothing else, and returns one action with its reason. The caller acts, records what happened and asks again, so that a
 * crash, a clock that jumped or a human who changed the files all end in the same question.
 *
 * The table of its answers is test/unit/agent-client/decide.test.ts; that it always converges is
 * test/property/agent-client/decide.test.ts.
 */
import { renewalPoint } from "@newleaf/shared/renewal-point";
import {
  announcedAt,
  type Choice,
  chooseSet,
  clientsOf,
  type Desired,
  isAsDesired,
  isWhole,
  leafHold,
  needsTelling,
  setHold,
} from "./choice.ts";
import { newestLeaf } from "./leaves.ts";
import type { HeldLeaf, Journal, RetryKind, Window } from "../journal.ts";
import { after, gate, type Pace, paceOf } from "./pace.ts";
import { latestRenewal } from "./urgency.ts";

export interface World extends Choice {
  readonly journal: Choice["journal"] &
    Pick<Journal, "nextUsed" | "window" | "request" | "told" | "served" | "notServed" | "stuck">;
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
  /** Clients that pin leaves are told of the next one. */
  | "announce"
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

const minute = 60_000;

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
  const at = Math.max(due, gate(world.journal, "ask", now));
  return [{ action: "renew", reason: "the renewal window is reached", at }, expiry];
}

/** The old leaf is about to expire: the new one must speak, served or not. */
function speakingUp(world: World, pace: Pace): readonly Candidate[] {
  const { journal } = world;
  if (journal.next === null || journal.current === null || journal.nextUsed) return [];
  const at = Math.max(journal.current.notAfter - pace.margin, gate(journal, "report", world.now));
  return [{ action: "promote", reason: "the old certificate is about to expire", at }];
}

function installing(world: World): readonly Candidate[] {
  const { desired, installed, now } = world;
  if (desired === null) return [];
  const hold = leafHold(world);
  const set = chooseSet(world);
  const open: Candidate[] = [...announcing(world, desired)];
  if (set !== null && !isAsDesired(installed, set)) {
    const at = Math.max(setHold(world, set), gate(world.journal, "install", now));
    open.push({ action: "install", reason: reasonToInstall(world, set), at });
  }
  if (hold !== null) {
    const reason = {
      quarantined: "the set that was taken back may be tried again",
      announced: "clients have had time to learn of the next certificate",
      unannounced: "the installed certificate is about to expire",
    }[hold.why];
    open.push({ action: "install", reason, at: Math.max(hold.until, gate(world.journal, "install", now)) });
  }
  return open;
}

/** The service and the command publish the next leaf before the switch; that one of them fails does not stop the other. */
function announcing(world: World, desired: Desired): readonly Candidate[] {
  const { installed, beforeSwitch, report, journal, now } = world;
  if (beforeSwitch === null || installed === null || installed.fingerprint === desired.fingerprint) return [];
  const open: Candidate[] = [];
  if (report.due && journal.current !== null && !isOver(journal.current, now) && !journal.nextUsed) {
    open.push(gated(world, "report", "report", "the service should know the next certificate before it is served"));
  }
  if (leafHold(world)?.why === "unannounced") {
    const again = announcedAt(journal, desired.fingerprint, Number.MAX_SAFE_INTEGER) !== null;
    const reason = again
      ? "the next certificate was announced by a clock that was wrong"
      : "a newer certificate is held";
    open.push(gated(world, "announce", "announce", reason));
  }
  return open;
}

function reasonToInstall({ installed, journal }: World, set: Desired): string {
  // A way back that is about to be taken goes first; and a quarantined set without a way back is replaced like any other.
  if (installed === null) return "nothing is installed";
  if (installed.fingerprint !== set.fingerprint) return "a newer certificate is held";
  if (!installed.complete || !installed.keyMatches) return "the files on disk are not as they should be";
  if (installed.quarantined) return "the set on disk broke the proxy";
  return set.fingerprint === newestLeaf(journal)?.fingerprint
    ? "trust bundle or CRLs have changed"
    : "trust bundle or CRLs have changed, while the newer certificate waits";
}

/** Whatever is on disk has to be served, also while something newer waits. */
function telling(world: World): readonly Candidate[] {
  const { desired, installed, journal, now } = world;
  if (desired === null || installed === null || !isWhole(installed) || installed.notAfter <= now) return [];
  const set = chooseSet(world);
  const { told, served } = journal;
  const isSet = set !== null && isAsDesired(installed, set);
  const isTold = isSet
    ? !needsTelling(told, set, now)
    : told !== null && told.fingerprint === installed.fingerprint && told.bundleVersion === installed.bundleVersion;
  if (!isTold) return [gated(world, "serve", "tell", "the proxy has to load it")];
  if (journal.notServed !== null || served?.fingerprint !== installed.fingerprint) {
    return [gated(world, "serve", "tell", "installed, not served")];
  }
  if (served.version !== installed.version) return [gated(world, "serve", "tell", "loaded, and not proven yet")];
  if (isSet && set.contents === desired.contents && journal.quarantine !== null) {
    // The newest set is in service, and that one was taken back is still an alarm: a proof ends it.
    return [gated(world, "serve", "tell", "a set was taken back, and nothing is proven since")];
  }
  if (!isSet || told === null || clientsOf(told) === clientsOf(set)) return [];
  return [{ action: "tell", reason: "the loaded CRL has half of its life behind it", at: told.refreshAt }];
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

function trustReason({ trust }: World): string {
  return trust.held ? "the service has a newer bundle or CRL" : "no trust bundle yet";
}

function isOver(leaf: HeldLeaf, now: number): boolean {
  return leaf.notAfter <= now;
}

/** Now, unless it failed lately. */
function gated(world: World, kind: RetryKind, action: Candidate["action"], reason: string): Candidate {
  return { action, reason, at: gate(world.journal, kind, world.now) };
}

/** Every so often after `last`, and not before a retry is allowed. */
function later(
  world: World,
  kind: RetryKind,
  action: Candidate["action"],
  last: number | null,
  every: number,
): Candidate {
  const at = Math.max(after(world.now, last, every), gate(world.journal, kind, world.now));
  return { action, reason: "time to look again", at };
}
