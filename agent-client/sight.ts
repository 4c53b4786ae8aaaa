/** What the proxy presents: the quick look, and the proof. Both leave behind what they saw, for reports. */
import type { ServedReport } from "@newleaf/shared/api";
import { isListed } from "./trust/bundle.ts";
import type { AgentContext } from "./context.ts";
import { speakerOf } from "./context.ts";
import { newestLeaf } from "./decide/leaves.ts";
import type { Told } from "./journal.ts";
import { paceOf } from "./decide/pace.ts";
import { type Expectation, probeOnce, probeServed, type ProbeVerdict } from "./probe/probe.ts";
import { revokedBy } from "./sets.ts";
import type { Trust } from "./trust/trust-store.ts";

/** A look before and between: longer answers count as none. */
const lookTimeoutMs = 3000;
/** Before the switch one good answer is enough. */
const atOnce = { handshakes: 1, overMs: 0, everyMs: 100 };
/** Canaries come with every so many looks: each is a line in the server's log. */
const looksPerCanary = 3;

/** One handshake for each probe; null when all show the expected leaf, else what is wrong. */
export async function wrongNow(context: AgentContext, expected: string): Promise<string | null> {
  const { config, clock, view } = context;
  const at = new Date(clock.now()).toISOString();
  const answers = await Promise.all(
    config.probes.map(async (probe) => ({ probe, answer: await probeOnce({ ...probe, timeoutMs: lookTimeoutMs }) })),
  );
  view.sightings = answers.flatMap(({ probe, answer }) =>
    "error" in answer
      ? []
      : [{ address: probe.connect, serverName: probe.serverName, fingerprint: answer.fingerprint, at }],
  );
  const wrong = answers.find(({ answer }) => "error" in answer || answer.fingerprint !== expected);
  if (wrong === undefined) return null;
  return "error" in wrong.answer ? wrong.answer.error : `${wrong.probe.connect} presents ${wrong.answer.fingerprint}`;
}

/** Proves at each probe that the expected leaf is served, and whatever else the probe asks for. */
export async function probeAll(
  context: AgentContext,
  expected: string,
  signal: AbortSignal,
): Promise<readonly ProbeVerdict[]> {
  const { config, clock, view } = context;
  const expectation = await expectationOf(context, expected, signal);
  const verdicts = await Promise.all(
    config.probes.map((probe) => probeServed(probe, { ...expectation, timeoutMs: probe.timeoutMs }, clock)),
  );
  view.sightings = verdicts.flatMap(({ fingerprint, at }, index): readonly ServedReport[] => {
    const probe = config.probes[index];
    if (fingerprint === null || probe === undefined) return [];
    return [{ address: probe.connect, serverName: probe.serverName, fingerprint, at: new Date(at).toISOString() }];
  });
  noteCanaries(context, verdicts);
  return verdicts;
}

/** It is time to see again whether the proxy lets the right clients in. */
export function areCanariesDue({ config, view, journal, clock }: AgentContext): boolean {
  if (config.probes.every((probe) => probe.canary === undefined)) return false;
  const since = view.canariesAt === null ? Number.POSITIVE_INFINITY : clock.now() - view.canariesAt;
  // Sent in the future: the clock has stepped back.
  return since < 0 || since >= looksPerCanary * paceOf(newestLeaf(journal.state), view.feedAlive).look;
}

function noteCanaries({ config, view, clock, log }: AgentContext, verdicts: readonly ProbeVerdict[]): void {
  const seen = verdicts.flatMap(({ canary }) => (canary === undefined ? [] : [canary]));
  // Handshakes that fail come to no canary: what was known is not known any more.
  if (config.probes.some((probe) => probe.canary !== undefined)) view.canariesAt = clock.now();
  const known = view.canaries.flatMap((canary) => canary.warnings);
  const fresh = seen.flatMap((canary) => canary.warnings).filter((warning) => !known.includes(warning));
  for (const why of fresh) log.warn("canary-proves-nothing", { why });
  view.canaries = seen;
}

/**
 * The leaf that was last seen served, when every probe shows it now and is content with the rest: only then can the new set be to
 * blame for what comes after. Null otherwise.
 */
export async function healthyNow(context: AgentContext, signal: AbortSignal): Promise<string | null> {
  const { config, clock, journal } = context;
  const { served } = journal.state;
  if (served === null || config.probes.length === 0) return served?.fingerprint ?? null;
  if ((await wrongNow(context, served.fingerprint)) !== null) return null;
  const expectation = await expectationOf(context, served.fingerprint, signal);
  const deeper = config.probes.filter(({ http, canary }) => http !== undefined || canary !== undefined);
  const verdicts = await Promise.all(
    deeper.map((probe) => probeServed(probe, { ...expectation, timeoutMs: lookTimeoutMs, steady: atOnce }, clock)),
  );
  return verdicts.every(({ outcome }) => outcome === "served") ? served.fingerprint : null;
}

async function expectationOf(context: AgentContext, expected: string, signal: AbortSignal): Promise<Expectation> {
  const { trust, journal } = context;
  const served = journal.state.served?.fingerprint ?? null;
  return {
    expected,
    previous: served === expected ? null : served,
    roots: trust.trust.roots,
    signal,
    client: (await speakerOf(context).catch(() => null))?.pem ?? null,
    isRevoked: revokedForProxy(journal.state.told, trust.trust.crls),
  };
}

/** Whether a serial is on the CRLs that the proxy was given: what the service has revoked since is not the proxy's fault. */
export function revokedForProxy(told: Told | null, crls: Trust["crls"]): (serial: string) => boolean {
  const isTold = told !== null && told.revoked === revokedBy(crls);
  return (serial) => isTold && [...crls.values()].some((crl) => isListed(crl.der, serial));
}
