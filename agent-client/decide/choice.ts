/**
 * Which set should be on disk now. PURE. It is the newest leaf held with the newest trust bundle and CRLs, unless that leaf has to
 * wait: it was taken back a while ago, or it has been announced and clients need time to learn of it. Meanwhile the leaf in
 * force goes on, but with the newest bundle and CRLs: a revocation never waits for a leaf.
 */
import type { Installed } from "../install/installed.ts";
import { newestLeaf } from "./leaves.ts";
import type { Journal, Told } from "../journal.ts";
import { gate, paceOf } from "./pace.ts";

/** A set: a leaf with the trust bundle and the CRLs held. */
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
  /** When the CRL that ends first ends. */
  readonly crlsUntil: number;
  /** Digest of the templates and the passphrase it is to be made with; absent without. */
  readonly recipe?: string;
}

export type InstalledNow = Pick<
  Installed,
  | "version"
  | "fingerprint"
  | "notAfter"
  | "bundleVersion"
  | "crlNumbers"
  | "recipe"
  | "complete"
  | "quarantined"
  | "keyMatches"
>;

/** `beforeSwitch` of agent.yml. */
export interface Notice {
  /** How long clients get to learn of the next leaf. Milliseconds. */
  readonly waitMs: number;
}

export interface Choice {
  readonly now: number;
  readonly journal: Pick<Journal, "current" | "next" | "quarantine" | "announced" | "retries">;
  /** Of the newest leaf. Null until there are a leaf in date and a trust bundle. */
  readonly desired: Desired | null;
  /** Of the leaf in force, while the newest is another. Null when there is no such leaf, or it is not the one installed. */
  readonly fallback: Desired | null;
  readonly installed: InstalledNow | null;
  /** The installed leaf is revoked: nothing is worse than to go on with it. */
  readonly revoked: boolean;
  /** Null: leaves are not announced. */
  readonly beforeSwitch: Notice | null;
}

/** Why the newest leaf is not installed yet, and until when. */
export interface Hold {
  /** `unannounced`: the command has not succeeded yet. */
  readonly why: "quarantined" | "unannounced" | "announced";
  readonly until: number;
}

/** Of the set only the leaf matters here. */
export interface LeafChoice extends Omit<Choice, "desired" | "fallback"> {
  readonly desired: Pick<Desired, "fingerprint"> | null;
}

/** Null: nothing holds the newest leaf back. */
export function leafHold(choice: LeafChoice): Hold | null {
  const { now, journal, desired, installed, beforeSwitch } = choice;
  if (desired === null || installed === null || installed.fingerprint === desired.fingerprint) return null;
  if (installed.notAfter <= now || choice.revoked) return null;
  if (journal.quarantine?.leaf === desired.fingerprint) {
    const until = gate(journal, "quarantine", now);
    if (until > now) return { why: "quarantined", until };
  }
  if (beforeSwitch === null) return null;
  const margin = installed.notAfter - paceOf(newestLeaf(journal), false).margin;
  const at = announcedAt(journal, desired.fingerprint, now);
  const until = at === null ? margin : Math.min(margin, at + beforeSwitch.waitMs);
  if (until <= now) return null;
  return { why: at === null ? "unannounced" : "announced", until };
}

/** When clients were told of this leaf; null when they were not, or by a clock that was ahead of this one. */
export function announcedAt(journal: Pick<Journal, "announced">, fingerprint: string, now: number): number | null {
  const { announced } = journal;
  return announced !== null && announced.fingerprint === fingerprint && announced.at <= now ? announced.at : null;
}

/** What should be on disk now; null when that cannot be made. */
export function chooseSet(choice: Choice): Desired | null {
  return leafHold(choice) === null ? choice.desired : choice.fallback;
}

/** From when on this set may be installed: it, or its trust bundle and CRLs, may have been taken back. */
export function setHold(choice: Choice, set: Desired): number {
  const { now, journal, installed } = choice;
  const { quarantine } = journal;
  if (quarantine === null) return now;
  if (quarantine.contents !== set.contents && quarantine.clients !== clientsOf(set)) return now;
  const isBad = installed === null || installed.quarantined || installed.notAfter <= now || choice.revoked;
  return isBad ? now : gate(journal, "quarantine", now);
}

/** Says which trust bundle and CRLs a set has. */
export function clientsOf({ bundleVersion, crlNumbers }: Pick<Desired, "bundleVersion" | "crlNumbers">): string {
  return `${bundleVersion} ${crlsOf({ crlNumbers })}`;
}

/** Says which CRLs a set has, in whatever order they are known. */
export function crlsOf({ crlNumbers }: Pick<Desired, "crlNumbers">): string {
  const numbers = Object.entries(crlNumbers).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return numbers.map(([id, number]) => `${id}=${number}`).join(" ");
}

/** Whether the files on disk are this set. */
export function isAsDesired(installed: InstalledNow | null, desired: Desired): boolean {
  return (
    installed !== null &&
    isWhole(installed) &&
    installed.fingerprint === desired.fingerprint &&
    installed.recipe === desired.recipe &&
    clientsOf(installed) === clientsOf(desired)
  );
}

/** Whether a proxy could be served from the files on disk. */
export function isWhole(installed: InstalledNow): boolean {
  return installed.complete && installed.keyMatches && !installed.quarantined;
}

/** A CRL that only got fresher is not worth a reload before half of the life of the loaded one is gone. */
export function needsTelling(told: Told | null, desired: Desired, now: number): boolean {
  if (told === null) return true;
  const changed =
    told.fingerprint !== desired.fingerprint ||
    told.recipe !== desired.recipe ||
    told.bundleVersion !== desired.bundleVersion ||
    told.revoked !== desired.revoked;
  return changed || (now >= told.refreshAt && clientsOf(told) !== clientsOf(desired));
}
