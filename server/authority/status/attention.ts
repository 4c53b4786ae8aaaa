/** What needs an operator's hand, the most pressing first: what it is, whom it concerns, and the command that helps. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { RequestRow } from "../../store/enrollments.ts";
import { auditBreakOf } from "../audit/watch.ts";
import type { Authority } from "../authority.ts";
import { openIssuerSteps } from "../revocation/revoke-issuer.ts";

/** From the most pressing to the least; the order in which they are told. */
export const attentionKinds = [
  "audit-broken",
  "journal-failing",
  "lineage-locked",
  "unvouched",
  "crl-ending",
  "overdue",
  "not-served",
  "crl-behind",
  "silent",
  "approvals",
  "paused",
  "unconfirmed",
  "issuer-open",
  "issuer-horizon",
  "backup-old",
  "root-key",
  "journal-off",
] as const;

export type AttentionKind = (typeof attentionKinds)[number];

export interface AttentionSubject {
  /** Identity, lineage, request or issuer. */
  readonly id: string;
  readonly since: number | null;
  readonly detail: string | null;
}

export interface Attention {
  readonly kind: AttentionKind;
  /** `now`: something fails or soon will. `soon`: within days. `note`: to be put right when there is time. */
  readonly urgency: "now" | "soon" | "note";
  /** Exact, also where not all are named. */
  readonly count: number;
  readonly summary: string;
  readonly command: string;
  readonly subjects: readonly AttentionSubject[];
}

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
/** Named of each kind; the counts are exact. */
const maxNamed = 20;
/** An agent asks at least hourly. */
const silentAfter = day;
/** Time that a host has to reload and prove it, before what it serves counts as wrong. */
const servingGrace = 5 * minute;
/** Time that hosts have to take a new CRL: who polls is told within a minute. */
const crlGrace = 10 * minute;
const heardOfWithin = 2 * hour;
/** A new intermediate is a ceremony: time to arrange it. */
const horizonNotice = 60 * day;
/** With a nightly backup one may fail. */
const oldBackup = 50 * hour;

/** What needs a hand now; nothing when all is well. */
export async function readAttention(authority: Authority): Promise<readonly Attention[]> {
  const found = [
    ...ofTheService(authority),
    ...(await ofJournal(authority)),
    ...(await ofConflicts(authority)),
    ...(await ofLeaves(authority)),
    ...(await ofHosts(authority)),
    ...(await ofDecisions(authority)),
    ...(await ofIssuers(authority)),
  ];
  return found.filter(({ count }) => count > 0).toSorted((a, b) => place(a) - place(b));
}

function place({ kind }: Attention): number {
  return attentionKinds.indexOf(kind);
}

/** One thing there is, or not. */
function whole(
  is: boolean,
  kind: AttentionKind,
  urgency: Attention["urgency"],
  summary: string,
  command: string,
): readonly Attention[] {
  return is ? [{ kind, urgency, count: 1, summary, command, subjects: [] }] : [];
}

function ofTheService(authority: Authority): readonly Attention[] {
  const { config, clock, backups } = authority;
  const broken = auditBreakOf(authority);
  const lastBackup = backups.lastSuccessAt();
  const isOld = lastBackup === null || clock.now() - lastBackup > oldBackup;
  return [
    ...whole(
      broken !== null,
      "audit-broken",
      "now",
      `the audit log is broken at row ${broken?.seq ?? 0}: ${broken?.reason ?? ""}`,
      "newleaf audit verify",
    ),
    ...whole(
      config.backup.schedule !== null && isOld,
      "backup-old",
      lastBackup === null ? "note" : "soon",
      lastBackup === null ? "there is no backup yet" : "the newest backup is more than two days old",
      "newleaf backup create",
    ),
    ...whole(
      existsSync(join(config.dataDir, "offline", "root.key.pem")),
      "root-key",
      "note",
      "the root's key is still on this host; offline/README.txt says how to carry it away",
      `cat ${join(config.dataDir, "offline", "README.txt")}`,
    ),
  ];
}

async function ofJournal({ store }: Authority): Promise<readonly Attention[]> {
  const journal = await store.journalStatus();
  return [
    ...whole(
      journal !== null && journal.failure !== null,
      "journal-failing",
      "now",
      `the journal cannot be written, so nothing can be: ${journal?.failure ?? ""}`,
      "newleaf doctor",
    ),
    ...whole(
      journal === null,
      "journal-off",
      "note",
      "there is no journal: what happens after a backup is lost with this disk, revocations included",
      "newleaf doctor",
    ),
  ];
}

async function ofConflicts({ store, issuers, clock }: Authority): Promise<readonly Attention[]> {
  const locked = await store.countLockedLineages();
  const lineages = locked === 0 ? [] : (await store.listLineages({ state: "locked", limit: maxNamed })).items;
  const unvouched = await store.countOpenUnvouched();
  const leaves = unvouched === 0 ? [] : (await store.listUnvouched({ state: "open", limit: maxNamed })).items;
  const now = clock.now();
  // Published hourly: one that is past half its life has not been for long.
  const ending = [...issuers.crls.values()].filter((crl) => {
    const row = issuers.rows.find(({ id }) => id === crl.issuerId);
    const isOnline = issuers.signers.has(crl.issuerId);
    const left = crl.nextUpdate - now;
    if (row === undefined || row.state === "retired") return false;
    return isOnline ? left < (crl.nextUpdate - crl.thisUpdate) / 2 : left < horizonNotice;
  });
  return [
    {
      kind: "lineage-locked",
      urgency: "now",
      count: locked,
      summary: "two hold the same leaf; renewals of the lineage are refused until you decide",
      command: "newleaf lineage show LINEAGE",
      subjects: lineages.map(({ id, identity, lockedAt }) => ({ id: identity, since: lockedAt, detail: id })),
    },
    {
      kind: "unvouched",
      urgency: "now",
      count: unvouched,
      summary: "leaves with our signature that the store does not know are refused",
      command: "newleaf cert unvouched list --state open",
      subjects: leaves.map(({ identity, serial, firstSeenAt }) => ({
        id: identity,
        since: firstSeenAt,
        detail: serial,
      })),
    },
    {
      kind: "crl-ending",
      urgency: "now",
      count: ending.length,
      summary: "a CRL is near its end; when it ends, proxies refuse every client",
      command: "newleaf crl show",
      subjects: ending.map(({ issuerId, nextUpdate }) => ({
        id: issuerId,
        since: null,
        detail: `ends ${new Date(nextUpdate).toISOString()}`,
      })),
    },
  ];
}

/** Relative to each leaf's own life: it is overdue when its own renewal window is over, be it a leaf of a day or of a year. */
async function ofLeaves({ store, clock }: Authority): Promise<readonly Attention[]> {
  const now = clock.now();
  const overdue = await store.countOverdueActive(now);
  const leaves = overdue === 0 ? [] : await store.listOverdue(now, maxNamed);
  const unconfirmed = await store.countUnconfirmed(now - day);
  return [
    {
      kind: "overdue",
      urgency: "now",
      count: overdue,
      summary: "leaves past the end of their renewal window, not renewed",
      command: "newleaf identity show IDENTITY",
      subjects: leaves
        .toSorted((a, b) => a.notAfter - b.notAfter)
        .map(({ identity, renewalEnd, notAfter }) => ({
          id: identity,
          since: renewalEnd,
          detail: `${notAfter <= now ? "ended" : "ends"} ${new Date(notAfter).toISOString()}`,
        })),
    },
    {
      kind: "unconfirmed",
      urgency: "note",
      count: unconfirmed,
      summary: "leaves released more than a day ago and never used",
      command: "newleaf cert list --state pending",
      subjects: [],
    },
  ];
}

async function ofHosts({ store, clock, issuers }: Authority): Promise<readonly Attention[]> {
  const now = clock.now();
  const unserved = await store.countMismatches(now - servingGrace);
  const hosts = unserved === 0 ? [] : await store.listMismatches(now - servingGrace, maxNamed);
  const silent = await store.countSilent(now - silentAfter, now);
  const agents = silent === 0 ? [] : await store.listSilent(now - silentAfter, now, maxNamed);
  const behind: AttentionSubject[] = [];
  let behindCount = 0;
  for (const crl of issuers.crls.values()) {
    // What was published just now is not expected everywhere; the one before is.
    const due = now - crl.thisUpdate > crlGrace ? crl.number : crl.number - 1;
    const count = await store.countBehindCrl(crl.issuerId, due, now - heardOfWithin);
    behindCount += count;
    if (count === 0) continue;
    const first = await store.listBehindCrl(crl.issuerId, due, now - heardOfWithin, maxNamed);
    behind.push(
      ...first.map(({ identity, number }) => ({
        id: identity,
        since: null,
        detail: `has CRL ${number} of ${crl.issuerId}, the newest is ${crl.number}`,
      })),
    );
  }
  return [
    {
      kind: "not-served",
      urgency: "now",
      count: unserved,
      summary: "hosts serve another leaf than the one in force",
      command: "newleaf identity show IDENTITY",
      subjects: hosts.map(({ identity, since }) => ({ id: identity, since, detail: null })),
    },
    {
      kind: "crl-behind",
      urgency: "now",
      count: behindCount,
      summary: "hosts have an older CRL in force: what was revoked since is let in there",
      command: "newleaf identity show IDENTITY",
      subjects: behind.slice(0, maxNamed),
    },
    {
      kind: "silent",
      urgency: "soon",
      count: silent,
      summary: "agents not heard of for a day; is newleaf-agent running there?",
      command: "newleaf identity list --sort lastSeen",
      subjects: agents.map(({ identity, lastSeenAt }) => ({ id: identity, since: lastSeenAt, detail: null })),
    },
  ];
}

async function ofDecisions({ store, clock, herd }: Authority): Promise<readonly Attention[]> {
  const now = clock.now();
  const pending = await store.countPendingRequests(now);
  const requests = pending === 0 ? [] : (await store.listRequests({ state: "pending", limit: maxNamed, now })).items;
  const paused = herd.pauses.count();
  const pauses = paused === 0 ? [] : (await store.listPauses({ limit: maxNamed, now })).items;
  return [
    {
      kind: "approvals",
      urgency: "soon",
      count: pending,
      summary: "enrollments wait for your decision",
      command: "newleaf approvals list",
      subjects: await Promise.all(requests.map((request) => describeRequest(store, request))),
    },
    {
      kind: "paused",
      urgency: "soon",
      count: paused,
      summary: "clients are answered at once, because the same request was refused again and again",
      command: "newleaf pauses list",
      subjects: pauses.map(({ identity, since, code }) => ({ id: identity, since, detail: code })),
    },
  ];
}

async function describeRequest(store: Authority["store"], request: RequestRow): Promise<AttentionSubject> {
  const given = await store.listApprovals(request.id);
  const by = given.map((approval) => approval.by).join(", ");
  const detail = by === "" ? `asked from ${request.address}` : `${by} said yes; another operator has to`;
  return { id: request.id, since: request.createdAt, detail };
}

async function ofIssuers(authority: Authority): Promise<readonly Attention[]> {
  const { issuers, config, clock } = authority;
  const now = clock.now();
  const steps = await openIssuerSteps(authority);
  const leafLife = Math.max(config.profiles.agent.validity, config.profiles.gateway.validity);
  const ending = issuers.rows.filter(
    (row) => row.kind === "intermediate" && row.state === "active" && row.notAfter - leafLife - now < horizonNotice,
  );
  return [
    {
      kind: "issuer-open",
      urgency: "now",
      count: steps.length,
      summary: "the revocation of an issuer is not finished",
      command: steps[0]?.next ?? "newleaf ca list",
      subjects: steps.map(({ issuer, next }) => ({ id: issuer, since: null, detail: next })),
    },
    {
      kind: "issuer-horizon",
      urgency: "soon",
      count: ending.length,
      summary: "an issuer is near its end: leaves come out shorter than their profile from then on",
      command: "newleaf ca list",
      subjects: ending.map(({ id, notAfter }) => ({
        id,
        since: null,
        detail: `whole leaves until ${new Date(notAfter - leafLife).toISOString()}, ends ${new Date(notAfter).toISOString()}`,
      })),
    },
  ];
}
