import type { StoredCertificateState } from "./certificates.ts";
import type { Profile } from "./identities.ts";
import type { ReportRow } from "./reports.ts";

/** A host whose proxy presents another leaf than the one in force, as of its last report. */
export interface Mismatch {
  readonly identity: string;
  /** When a report first said so. */
  readonly since: number;
  /** Of the last report. */
  readonly at: number;
}

/** An agent that reported before and has not been heard of since. */
export interface Silence {
  readonly identity: string;
  readonly lastSeenAt: number;
}

export interface BehindCrl {
  readonly identity: string;
  /** Of the CRL in force there. */
  readonly number: number;
}

/** A leaf in force past the end of its renewal window: it should have been followed by now. */
export interface Overdue {
  readonly identity: string;
  readonly profile: Profile;
  readonly serial: string;
  readonly issuedAt: number;
  readonly notAfter: number;
  readonly renewalEnd: number;
}

/** What is said of a leaf where its bytes are not needed. */
export interface LeafBrief {
  readonly identity: string;
  readonly serial: string;
  readonly fingerprint: string;
  readonly state: StoredCertificateState;
  readonly lineage: string | null;
  readonly issuedAt: number;
  readonly notAfter: number;
  readonly renewalEnd: number;
}

export interface HostReport extends ReportRow {
  /** Since when something served is not the leaf in force; null when all is well. */
  readonly mismatchSince: number | null;
}

/** What an operator has to know of the whole fleet, each as a count and the first of them. Of active identities only. */
export interface StandingStore {
  /** Reported so since before `before`. */
  countMismatches(before: number): Promise<number>;
  /** The longest first. */
  listMismatches(before: number, limit: number): Promise<readonly Mismatch[]>;
  /** Agents with a leaf in date that were last seen before `before`. */
  countSilent(before: number, now: number): Promise<number>;
  /** The longest first. */
  listSilent(before: number, now: number, limit: number): Promise<readonly Silence[]>;
  /** Agents seen since `seenSince` whose host has a CRL of this issuer in force that is older than `number`. */
  countBehindCrl(issuer: string, number: number, seenSince: number): Promise<number>;
  listBehindCrl(issuer: string, number: number, seenSince: number, limit: number): Promise<readonly BehindCrl[]>;
  /** The longest overdue first; of active identities, also those that have expired. */
  listOverdue(now: number, limit: number): Promise<readonly Overdue[]>;
  countOverdueActive(now: number): Promise<number>;
  /** Pending and current leaves in date of these identities, the newest of each first. */
  listLiveLeaves(identities: readonly string[], now: number): Promise<readonly LeafBrief[]>;
  listReports(identities: readonly string[]): Promise<readonly HostReport[]>;
  /** Whatever state it is in. */
  findLeafByFingerprint(fingerprint: string): Promise<LeafBrief | null>;
  /** In the middle of what agents' clocks were ahead of ours, milliseconds, by how many reports since `since`; null without any. */
  medianClockSkew(since: number): Promise<{ readonly skew: number; readonly reports: number } | null>;
}
