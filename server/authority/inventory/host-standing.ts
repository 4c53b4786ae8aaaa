/** Issued, installed, served: what an identity's host has of what it should have, and in a sentence what is wrong. */
import type { CertificateReport } from "@newleaf/shared/api";
import type { IdentityRow } from "../../store/identities.ts";
import type { HostReport, LeafBrief } from "../../store/standings.ts";
import type { Authority } from "../authority.ts";
import { isoTime } from "../issue.ts";

/** How what a listener presents stands to the leaf in force. */
export type ServedState = "in-force" | "next" | "before" | "withdrawn" | "foreign";

/** One listener of the host, with the three fingerprints. */
export interface ListenerStanding {
  /** Of the agent's certificate. */
  readonly name: string;
  readonly address: string;
  readonly serverName: string;
  readonly issued: string | null;
  readonly installed: string | null;
  readonly served: string;
  /** When it was seen in a handshake, by the clock of the host. */
  readonly servedAt: string;
  readonly state: ServedState;
}

export interface HostStanding {
  readonly leaf: LeafBrief | null;
  readonly report: HostReport | null;
  readonly listeners: readonly ListenerStanding[];
  /** Leaf of each of the report's certificates that is on the host and not installed yet; null where there is none. */
  readonly next: readonly (string | null)[];
  /** What is wrong, a sentence each; empty when all is well. */
  readonly wrong: readonly string[];
}

const minute = 60_000;
const day = 86_400_000;
const notableSkew = minute;

/** Of all these at once. In their order. */
export async function readStandings(
  { store, clock }: Authority,
  rows: readonly IdentityRow[],
): Promise<readonly HostStanding[]> {
  const now = clock.now();
  const ids = rows.map(({ id }) => id);
  const leaves = Map.groupBy(await store.listLiveLeaves(ids, now), ({ identity }) => identity);
  const reports = new Map((await store.listReports(ids)).map((report) => [report.identity, report]));
  return Promise.all(
    rows.map(async (row) => {
      const report = reports.get(row.id) ?? null;
      const live = leaves.get(row.id) ?? [];
      const known = await knownLeaves(store, live, report);
      return judgeStanding({ row, live, report, known, now });
    }),
  );
}

/** Leaves that the host speaks of and that are not live: looked up one by one, for they are few. */
async function knownLeaves(
  store: Authority["store"],
  live: readonly LeafBrief[],
  report: HostReport | null,
): Promise<ReadonlyMap<string, LeafBrief>> {
  const known = new Map(live.map((leaf) => [leaf.fingerprint, leaf]));
  for (const { installed, served } of report?.report.certificates ?? []) {
    for (const fingerprint of [installed, ...served.map((seen) => seen.fingerprint)]) {
      if (fingerprint === null || known.has(fingerprint)) continue;
      const leaf = await store.findLeafByFingerprint(fingerprint);
      if (leaf !== null) known.set(fingerprint, leaf);
    }
  }
  return known;
}

export interface Seen {
  readonly row: Pick<IdentityRow, "id" | "profile" | "state" | "lastSeenAt">;
  /** Pending and current leaves in date, the newest first. */
  readonly live: readonly LeafBrief[];
  readonly report: HostReport | null;
  /** By fingerprint: every leaf of ours that the report speaks of. */
  readonly known: ReadonlyMap<string, LeafBrief>;
  readonly now: number;
}

/** Pure: what follows from what is issued and what was reported. */
export function judgeStanding(seen: Seen): HostStanding {
  const { live, report } = seen;
  const leaf = live[0] ?? null;
  const certificates = report?.report.certificates ?? [];
  const listeners = certificates.flatMap((certificate) => listenersOf(seen, leaf, certificate));
  return {
    leaf,
    report,
    listeners,
    next: certificates.map((certificate) => nextOf(certificate, live)),
    wrong: [...wrongWithLeaf(seen, leaf), ...wrongOnHost(seen, leaf, listeners)],
  };
}

function listenersOf(seen: Seen, leaf: LeafBrief | null, { name, installed, served }: CertificateReport) {
  return served.map(({ address, serverName, fingerprint, at }): ListenerStanding => ({
    name,
    address,
    serverName,
    issued: leaf?.fingerprint ?? null,
    installed,
    served: fingerprint,
    servedAt: at,
    state: stateOf(seen, leaf, fingerprint),
  }));
}

function stateOf({ known, row, live }: Seen, leaf: LeafBrief | null, fingerprint: string): ServedState {
  if (fingerprint === leaf?.fingerprint) return "in-force";
  const served = known.get(fingerprint);
  if (served === undefined || served.identity !== row.id) return "foreign";
  if (["revoked", "held", "replaced"].includes(served.state)) return "withdrawn";
  return live.some((other) => other.fingerprint === fingerprint && other.state === "pending") ? "next" : "before";
}

/**
 * The leaf that the host holds and is about to install: who pins leaves has to know it before the switch. It is the host's word, so
 * it counts only as long as it is a leaf that this service issued to the identity and that is still good.
 */
function nextOf({ installed, nextFingerprint }: CertificateReport, live: readonly LeafBrief[]): string | null {
  if (nextFingerprint === undefined || nextFingerprint === installed) return null;
  return live.some(({ fingerprint }) => fingerprint === nextFingerprint) ? nextFingerprint : null;
}

function wrongWithLeaf({ row, report, now }: Seen, leaf: LeafBrief | null): string[] {
  if (row.state === "suspended") return ["It is suspended: all its requests are refused until it is resumed."];
  if (leaf === null) {
    return row.lastSeenAt === null && report === null
      ? ["It has no certificate yet."]
      : [`It has no certificate in date any more; newleaf identity grant-recovery ${row.id} lets it come back.`];
  }
  if (leaf.renewalEnd < now)
    return [`Its leaf should have been renewed by ${isoTime(leaf.renewalEnd)} and ends ${isoTime(leaf.notAfter)}.`];
  return [];
}

function wrongOnHost(
  { row, report, known, now }: Seen,
  leaf: LeafBrief | null,
  listeners: readonly ListenerStanding[],
): string[] {
  if (leaf === null || row.profile === "operator" || row.state !== "active") return [];
  if (report === null) return now - leaf.issuedAt > day ? ["No agent has ever reported for it."] : [];
  const { failure, certificates } = report.report;
  const lastFailure =
    failure === undefined ? "" : `; last failure: ${failure.step}: ${failure.message} (${failure.at})`;
  const pending = report.mismatchSince === null ? "" : `: reload pending since ${isoTime(report.mismatchSince)}`;
  const what: Readonly<Record<ServedState, string | null>> = {
    "in-force": null,
    next: null,
    before: "the leaf before",
    withdrawn: "a leaf that is revoked, held or replaced",
    foreign: "no leaf of this identity that we issued",
  };
  const sentences = listeners.flatMap(({ address, served, state }) => {
    const is = what[state];
    if (is === null) return [];
    const serial = known.get(served)?.serial;
    return [`Served at ${address} is ${is}${serial === undefined ? "" : ` (${serial})`}${pending}${lastFailure}.`];
  });
  for (const { name, installed } of certificates) {
    if (installed === null) sentences.push(`Nothing is installed as ${name}${lastFailure}.`);
    else if (installed !== leaf.fingerprint && known.get(installed)?.state !== "pending" && sentences.length === 0)
      sentences.push(`Installed as ${name} is not the leaf in force${lastFailure}.`);
  }
  if (sentences.length === 0 && failure !== undefined)
    sentences.push(`Its agent reports: ${failure.step}: ${failure.message} (${failure.at}).`);
  if (row.lastSeenAt !== null && now - row.lastSeenAt > day)
    sentences.push(`It has not been heard of since ${isoTime(row.lastSeenAt)}; what is said of its host is as old.`);
  const { clockSkew } = report;
  if (Math.abs(clockSkew) > notableSkew)
    sentences.push(
      `Its clock is ${Math.round(Math.abs(clockSkew) / 1000)} s ${clockSkew > 0 ? "ahead of" : "behind"} ours.`,
    );
  return sentences;
}
