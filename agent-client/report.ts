/** The arrow served → reported: the service learns what this host has installed and serves. The first report of a new leaf is its first use. */
import { createHash } from "node:crypto";
import type { AgentReport, CertificateReport } from "@newleaf/shared/api";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import { chooseSet, needsTelling } from "./decide/choice.ts";
import { type AgentContext, arrow, succeeded, WorkError } from "./context.ts";
import type { Installed } from "./install/installed.ts";
import { newestLeaf, speakingLeaf } from "./decide/leaves.ts";
import { type Journal, retryKinds } from "./journal.ts";
import { choiceOf } from "./sets.ts";

const maxMessage = 900;
const notableSkewMs = 60_000;

/** A leaf of which the service says this has no future. */
const dead: ReadonlySet<ProblemCode> = new Set([
  "certificate-revoked",
  "certificate-unknown",
  "certificate-not-trusted",
  "certificate-superseded",
]);

/**
 * @param asNext the new leaf speaks: it is promoted, and there is no way back to speaking with the old one
 * @throws AppError, NetworkError, WorkError
 */
export async function report(context: AgentContext, installed: Installed | null, asNext: boolean): Promise<void> {
  const { journal, credentials, client, clock, view } = context;
  const { step } = journal.state;
  await arrow(context, "reported", asNext ? { nextUsed: true } : {});
  const leaf = speakingLeaf(journal.state, clock.now());
  if (leaf === null) throw new WorkError("there is no certificate in date to report with");
  const body = await compose(context, installed);
  try {
    await client.report(await credentials.readLeaf(leaf.fingerprint), body);
  } catch (error) {
    await forgetDead(context, error);
    throw error;
  }
  context.checkpoint("report-sent");
  view.reportedAt = clock.now();
  view.reportedDigest = digestOf(body);
  sayClock(context);
  const done = succeeded(context, "report");
  if (leaf === journal.state.next) await promote(context, done);
  // A report on the way (what comes next, what failed) does not change how far the new leaf is.
  else await journal.update({ ...done, step: journal.state.next === null ? "idle" : step });
}

/** With every report: whose clock is wrong is for a human to find, and certificates are a matter of time. */
function sayClock({ client, log }: AgentContext): void {
  const { skewMs } = client;
  if (skewMs === null || Math.abs(skewMs) < notableSkewMs) return;
  const seconds = Math.round(skewMs / 1000);
  log.warn("clock-skew", { seconds, why: `this host's clock is ${seconds > 0 ? "ahead of" : "behind"} the service's` });
}

/** Whether the service knows less than this. */
export async function isReportDue(context: AgentContext, installed: Installed | null): Promise<boolean> {
  return digestOf(await compose(context, installed)) !== context.view.reportedDigest;
}

async function promote(context: AgentContext, done: Pick<Journal, "retries">): Promise<void> {
  const { journal, credentials, view, log, wake } = context;
  const { next } = journal.state;
  if (next === null) return;
  await journal.update({ ...done, current: next, next: null, nextUsed: false, window: null, step: "idle" });
  context.checkpoint("idle");
  view.windowCheckedAt = null;
  view.windowHint = null;
  await credentials.keepLeaves([next.fingerprint]);
  log.info("in-force", { serial: next.serial, generation: next.generation });
  wake.now();
}

/**
 * The service refuses the leaf that spoke, for good. Refused was the new one: the old one, when it is still in date, carries on and
 * asks for another. Refused was the old one: the new one need not wait for being served.
 */
async function forgetDead({ journal, clock, log }: AgentContext, error: unknown): Promise<void> {
  const { current, next, nextUsed } = journal.state;
  if (!(error instanceof AppError) || !dead.has(error.code) || next === null || current === null) return;
  if (!nextUsed) return journal.update({ nextUsed: true });
  if (current.notAfter <= clock.now()) return;
  log.error("new-certificate-refused", { serial: next.serial, code: error.code });
  await journal.update({ next: null, nextUsed: false });
}

async function compose(context: AgentContext, installed: Installed | null): Promise<AgentReport> {
  const { config, journal, clock, view } = context;
  const { state } = journal;
  const newest = newestLeaf(state);
  const certificate: CertificateReport = {
    name: config.name,
    installed: installed?.fingerprint ?? null,
    ...(newest !== null && newest.fingerprint !== installed?.fingerprint
      ? { nextFingerprint: newest.fingerprint }
      : {}),
    served: view.sightings,
  };
  const inForce = await trustInForce(context, installed);
  const failure = latestFailure(state);
  return {
    certificates: [certificate],
    ...inForce,
    clock: new Date(clock.now()).toISOString(),
    ...(failure === null ? {} : { failure }),
  };
}

/** Bundle and CRLs that the proxy holds, not only the disk: an operator who revokes waits for this. */
async function trustInForce(
  context: AgentContext,
  installed: Installed | null,
): Promise<Pick<AgentReport, "bundleVersion" | "crls">> {
  if (installed === null) return { bundleVersion: 0, crls: {} };
  const { told } = context.journal.state;
  const set = chooseSet(await choiceOf(context, installed));
  if (set !== null && told !== null && needsTelling(told, set, context.clock.now())) {
    return { bundleVersion: told.bundleVersion, crls: told.crlNumbers };
  }
  return { bundleVersion: installed.bundleVersion, crls: installed.crlNumbers };
}

/** What stands in the way most recently; "installed, not served" when that is the state. */
export function latestFailure(
  journal: Pick<Journal, "retries" | "notServed">,
): NonNullable<AgentReport["failure"]> | null {
  const errors = retryKinds.flatMap((kind) => journal.retries[kind].error ?? []);
  const [latest] = errors.toSorted((a, b) => b.at - a.at);
  const at = (time: number): string => new Date(time).toISOString();
  if (journal.notServed !== null) {
    const { detail, since } = journal.notServed;
    return { step: "served", message: `installed, not served: ${detail}`.slice(0, maxMessage), at: at(since) };
  }
  if (latest === undefined) return null;
  return { step: latest.step, message: `${latest.code}: ${latest.message}`.slice(0, maxMessage), at: at(latest.at) };
}

/** What is news: not the clock, and not when the same handshake or failure was seen last. */
function digestOf(body: AgentReport): string {
  const certificates = body.certificates.map((certificate) => ({
    ...certificate,
    served: certificate.served.map(({ address, serverName, fingerprint }) => ({ address, serverName, fingerprint })),
  }));
  const news = [certificates, body.bundleVersion, body.crls, body.failure?.step, body.failure?.message];
  return createHash("sha256").update(JSON.stringify(news)).digest("hex");
}
