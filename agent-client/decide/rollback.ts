/**
 * What to do once the proxy was told of a set, by what was seen afterwards. PURE: one table, of which the first row that fits
 * counts. Its cells are named one by one in test/unit/agent-client/rollback.test.ts.
 */
import type { ProbeVerdict } from "../probe/probe.ts";

/**
 * `commit`: the set is in force. `swap-back`: the last good set is put back, and this one is not tried again for a while.
 * `keep-and-tell-again`: it stays on the disk and the proxy is told again. `keep-and-alarm`: likewise, but this is an outage, or
 * one to come, that going back would not mend.
 */
export type Way = "commit" | "swap-back" | "keep-and-tell-again" | "keep-and-alarm";

/**
 * What the worst of all probes saw. `dead`: nobody listens any more. `unprobed`: there is no probe. `check-failed`: the server's
 * own check said no, and it was not told.
 */
export type Sight = "check-failed" | "unprobed" | "dead" | ProbeVerdict["outcome"];

/** `refused`: the server looked at the set and did not take it. `failed`: it could not be told, which says nothing of the set. */
export type ReloadSaid = "ok" | "refused" | "failed";

export interface Aftermath {
  readonly sight: Sight;
  readonly reload: ReloadSaid;
  /** Just before the switch every probe saw the leaf that was last seen served. */
  readonly healthyBefore: boolean;
  /** There is a last good set, its leaf is in date and not revoked. */
  readonly wayBack: boolean;
  readonly news: News;
  /** The CRLs of the last good set are still in date; also when it has none. */
  readonly olderCrlsValid: boolean;
}

/** In what the set differs from the last good one. */
export interface News {
  readonly leaf: boolean;
  /** Trust bundle or CRLs: who is let in. */
  readonly clients: boolean;
  /** The template or the passphrase that the files are made with. */
  readonly form: boolean;
}

export type RowName = (typeof table)[number]["name"];

export interface Row {
  readonly name: RowName;
  readonly way: Way;
  /** Nobody listens: it is started, after the way back if there is one. */
  readonly start: boolean;
  /** The proxy was harmed by trying: the next attempt is a long time away. */
  readonly harm: boolean;
  /** For logs and status. */
  readonly sentence: string;
}

interface Condition extends Partial<Omit<Aftermath, "sight" | "news">> {
  readonly sight: readonly Sight[];
  readonly newLeaf?: boolean;
  readonly newClients?: boolean;
  /** Something is new that handshakes do not show, be it who is let in or the form. */
  readonly newRest?: boolean;
}

interface Entry {
  readonly name: string;
  readonly when: Condition;
  readonly way: Way;
  readonly start?: boolean;
  readonly harm?: boolean;
  readonly sentence: string;
}

/** Was well, and there is a way back. */
const well = { healthyBefore: true, wayBack: true } as const;

const table = [
  {
    name: "check-failed",
    when: { sight: ["check-failed"], wayBack: true },
    way: "swap-back",
    sentence: "the server's own check refused it before the server heard of it: the new set was taken back",
  },
  {
    name: "check-failed-for-good",
    when: { sight: ["check-failed"] },
    way: "keep-and-alarm",
    sentence: "the server's own check refuses the set on disk, and there is none to go back to",
  },
  {
    name: "refused-unseen",
    when: { sight: ["served"], newLeaf: false, newRest: true, reload: "refused", wayBack: true, olderCrlsValid: true },
    way: "swap-back",
    sentence:
      "the server would not start from the trust bundle, CRLs or template, which it refused: the new set was taken back",
  },
  {
    // The leaf is the same: handshakes cannot tell whether the rest was loaded.
    name: "unproven",
    when: { sight: ["served"], newLeaf: false, newRest: true, reload: "refused" },
    way: "keep-and-tell-again",
    sentence: "the server refused the new trust bundle, CRLs or template, and there is no good older set",
  },
  {
    name: "untold-clients",
    when: { sight: ["served"], newLeaf: false, newRest: true, reload: "failed" },
    way: "keep-and-tell-again",
    sentence: "the server could not be told of the new trust bundle, CRLs or template",
  },
  { name: "served", when: { sight: ["served"] }, way: "commit", sentence: "the new set is served" },
  {
    name: "told",
    when: { sight: ["unprobed"], reload: "ok" },
    way: "commit",
    sentence: "the server was told, and nothing is probed",
  },
  {
    name: "refused-unprobed",
    when: { sight: ["unprobed"], reload: "refused", wayBack: true },
    way: "swap-back",
    sentence: "the server would not start from what it refused: the new set was taken back",
  },
  {
    name: "untold",
    when: { sight: ["unprobed"] },
    way: "keep-and-tell-again",
    sentence: "the server could not be told, and nothing is probed",
  },
  {
    name: "died",
    when: { sight: ["dead"], ...well },
    way: "swap-back",
    start: true,
    harm: true,
    sentence: "nobody listens since the reload: the new set was taken back",
  },
  {
    name: "died-for-good",
    when: { sight: ["dead"], healthyBefore: true },
    way: "keep-and-alarm",
    start: true,
    harm: true,
    sentence: "nobody listens since the reload, and there is no set to go back to",
  },
  {
    name: "down-before",
    when: { sight: ["dead"] },
    way: "keep-and-tell-again",
    sentence: "nobody listens, as before the switch: the files are good, the server may be started",
  },
  {
    name: "broke",
    when: { sight: ["broken"], ...well },
    way: "swap-back",
    harm: true,
    sentence: "handshakes fail since the reload: the new set was taken back",
  },
  {
    name: "broke-for-good",
    when: { sight: ["broken"], healthyBefore: true },
    way: "keep-and-alarm",
    harm: true,
    sentence: "handshakes fail since the reload, and there is no set to go back to",
  },
  {
    name: "broken-before",
    when: { sight: ["broken"] },
    way: "keep-and-tell-again",
    sentence: "handshakes fail, as before the switch",
  },
  {
    name: "unverified",
    when: { sight: ["unverified"], ...well },
    way: "swap-back",
    harm: true,
    sentence: "the new leaf is served, but clients could not verify it: the new set was taken back",
  },
  {
    name: "unverified-for-good",
    when: { sight: ["unverified"] },
    way: "keep-and-alarm",
    sentence: "the leaf is served, but clients cannot verify it, and there is no better set to go back to",
  },
  {
    name: "unhealthy",
    when: { sight: ["unhealthy"], ...well },
    way: "swap-back",
    harm: true,
    sentence: "the new leaf is served, but requests fail: the new set was taken back",
  },
  {
    name: "unhealthy-for-good",
    when: { sight: ["unhealthy"] },
    way: "keep-and-alarm",
    sentence: "the leaf is served, but requests fail, and going back would not mend it",
  },
  {
    name: "clients-refused",
    when: { sight: ["canary-refused"], newClients: true, olderCrlsValid: true, ...well },
    way: "swap-back",
    harm: true,
    sentence: "good clients are turned away since trust bundle or CRLs changed: the new set was taken back",
  },
  {
    name: "clients-refused-for-good",
    when: { sight: ["canary-refused"] },
    way: "keep-and-alarm",
    sentence: "OUTAGE: good clients are turned away, and going back would not mend it",
  },
  {
    // Older CRLs would let in more, not fewer.
    name: "revoked-let-in",
    when: { sight: ["canary-passed"] },
    way: "keep-and-alarm",
    sentence: "a revoked client gets in: the server does not look at its CRLs",
  },
  {
    name: "refused",
    when: { sight: ["old", "other"], reload: "refused", ...well },
    way: "swap-back",
    sentence: "the server would not start from what it refused: the new set was taken back",
  },
  {
    name: "old-served",
    when: { sight: ["old"] },
    way: "keep-and-tell-again",
    sentence: "installed, not served: the server is healthy and goes on with the leaf before",
  },
  {
    name: "other-served",
    when: { sight: ["other"] },
    way: "keep-and-tell-again",
    sentence: "installed, not served: what is served is another leaf",
  },
] as const satisfies readonly Entry[];

/** The one row for what was seen. */
export function judge(aftermath: Aftermath): Row {
  const entries: readonly (Entry & { readonly name: RowName })[] = table;
  const entry = entries.find(({ when }) => fits(when, aftermath));
  // Every sight has a row without further conditions.
  if (entry === undefined) throw new Error(`no row for ${aftermath.sight}`);
  const { name, way, start = false, harm = false, sentence } = entry;
  return { name, way, start, harm, sentence };
}

/** Which part of a set that was taken back is not tried again for a while: the other goes on. Null: only the set as a whole. */
export function blame(row: Pick<Row, "name">, news: News): "leaf" | "clients" | null {
  if (news.clients && (row.name === "clients-refused" || !news.leaf)) return "clients";
  return news.leaf ? "leaf" : null;
}

/** The worst first: what one of several probes sees is what some clients get. */
const severity: readonly Sight[] = [
  "dead",
  "broken",
  "unverified",
  "unhealthy",
  "canary-refused",
  "canary-passed",
  "other",
  "old",
  "served",
];

/** What the worst verdict is, and that verdict; null without probes. */
export function worstOf(verdicts: readonly ProbeVerdict[]): { sight: Sight; verdict: ProbeVerdict | null } {
  const seen = verdicts.map((verdict) => ({ sight: sightOf(verdict), verdict }));
  for (const sight of severity) {
    const found = seen.find((one) => one.sight === sight);
    if (found !== undefined) return found;
  }
  return { sight: "unprobed", verdict: null };
}

function sightOf({ outcome, reachable }: ProbeVerdict): Sight {
  return outcome === "broken" && !reachable ? "dead" : outcome;
}

function fits(when: Condition, given: Aftermath): boolean {
  const agrees = <Value>(wanted: Value | undefined, is: Value): boolean => wanted === undefined || wanted === is;
  return (
    when.sight.includes(given.sight) &&
    agrees(when.reload, given.reload) &&
    agrees(when.healthyBefore, given.healthyBefore) &&
    agrees(when.wayBack, given.wayBack) &&
    agrees(when.olderCrlsValid, given.olderCrlsValid) &&
    agrees(when.newLeaf, given.news.leaf) &&
    agrees(when.newClients, given.news.clients) &&
    agrees(when.newRest, given.news.clients || given.news.form)
  );
}
