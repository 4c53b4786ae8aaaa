/** Back to the last good set: what was seen is weighed, the set is condemned, swapped for the one before, and that one is proven. */
import { clientsOf } from "./decide/choice.ts";
import { type AgentContext, arrow, failed, WorkError } from "./context.ts";
import type { Installed } from "./install/installed.ts";
import { quarantine, rollback } from "./install/switch.ts";
import { fresh, type Journal, type Quarantine } from "./journal.ts";
import { probeOnce } from "./probe/probe.ts";
import { startServer } from "./reload/start.ts";
import { describe } from "./reload/drivers.ts";
import { type Change, everything } from "./reload/strategy.ts";
import { type Aftermath, blame, type News, type ReloadSaid, type Row, worstOf } from "./decide/rollback.ts";
import { probeAll } from "./sight.ts";

/** A connection that is not taken by then is not taken. */
const deafAfterMs = 3000;

/** The last good set can be served again: its leaf is in date and not revoked, and it is not the one installed. */
export function canGoBack({ journal, clock, trust }: Vantage, installed: Pick<Installed, "version">): boolean {
  const { served, current } = journal.state;
  if (served === null || served.version === installed.version || served.notAfter <= clock.now()) return false;
  const serial = current?.fingerprint === served.fingerprint ? current.serial : served.serial;
  return serial === undefined || !trust.isRevoked(serial);
}

interface Vantage {
  readonly journal: Pick<AgentContext["journal"], "state">;
  readonly clock: AgentContext["clock"];
  readonly trust: Pick<AgentContext["trust"], "isRevoked">;
}

/** What was seen, with all that the table of roll-back looks at besides. */
export function aftermathOf(
  context: AgentContext,
  installed: Installed,
  seen: Pick<Aftermath, "sight" | "reload">,
): Aftermath {
  const { journal, clock } = context;
  const { served, healthyBefore, stuck } = journal.state;
  return {
    ...seen,
    healthyBefore: healthyBefore !== null,
    wayBack: stuck !== installed.version && canGoBack(context, installed),
    news: newsOf(served, installed),
    olderCrlsValid: (served?.told?.crlsUntil ?? 0) > clock.now(),
  };
}

/** Against the set last seen served. What that one had is not known from journals of older versions: then it is the leaf. */
function newsOf(served: Journal["served"], installed: Installed): News {
  const before = served?.told;
  return {
    leaf: served?.fingerprint !== installed.fingerprint,
    clients: before !== undefined && clientsOf(before) !== clientsOf(installed),
    form: before !== undefined && before.recipe !== installed.recipe,
  };
}

/** Tells the proxy, and says whether it was the set that it did not take. */
export async function tellServer(
  context: AgentContext,
  change: Change,
  signal: AbortSignal,
): Promise<{ said: ReloadSaid; detail: string }> {
  const { config, journal, log } = context;
  const {
    ok,
    detail,
    refused = false,
  } = await context.reload(config.reload, { signal, target: config.target, change });
  const outcome = { ok, how: describe(config.reload), detail };
  if (ok) log.info("reload", outcome);
  else log.warn("reload", outcome);
  return { said: ok ? "ok" : refused && !journal.state.reloadSuspect ? "refused" : "failed", detail };
}

export interface Charge {
  readonly row: Row;
  readonly news: News;
  readonly detail: string;
  /** Of the set; null when it is none that is known. */
  readonly contents: string | null;
}

/** Condemns the installed set; that there is a way back has been looked at. The next decision takes it. */
export async function takeBack(context: AgentContext, installed: Installed, charge: Charge): Promise<void> {
  const { config } = context;
  await quarantine(config.target, installed.version, `${charge.row.name}: ${charge.detail}`);
  context.checkpoint("quarantined");
  await context.journal.update({ staging: null, ...condemned(context, installed, charge) });
}

function condemned(
  context: AgentContext,
  installed: Installed,
  { row, news, detail, contents }: Charge,
): Pick<Journal, "quarantine" | "retries"> {
  const before = context.journal.state.quarantine;
  const culprit = blame(row, news);
  const noted: Quarantine = {
    version: installed.version,
    row: row.name,
    since: context.clock.now(),
    detail,
    contents,
    // The leaf and the bundle that were taken back one after the other both wait.
    leaf: culprit === "leaf" ? installed.fingerprint : (before?.leaf ?? null),
    clients: culprit === "clients" ? clientsOf(installed) : (before?.clients ?? null),
  };
  const error = new WorkError(`${row.sentence}: ${detail}`, "taken-back");
  const { retries } = failed(context, "quarantine", { step: "served", error, outcome: "rolled-back", broke: row.harm });
  return { quarantine: noted, retries: { ...retries, serve: fresh } };
}

/** Swaps back to the last good set, tells the proxy, starts it when nobody listens any more, and looks. */
export async function rollBack(context: AgentContext, installed: Installed, signal: AbortSignal): Promise<void> {
  const { config, journal, clock, log } = context;
  const { served } = journal.state;
  // Whatever is loaded by now: a crash from here on must end in another look at the proxy.
  await arrow(context, "switched", { told: null, ...chargeAnew(context, installed) });
  const version = await rollback(config.target);
  context.checkpoint("rolled-back");
  if (version === null || served === null) {
    log.error("no-way-back", { version: installed.version });
    return journal.update({ stuck: installed.version });
  }
  log.warn("rolled-back", { from: installed.version, to: version, why: journal.state.quarantine?.row });
  const acquitted = await tellAgain(context, signal);
  const { sight, verdict } = await lookForOld(context, served.fingerprint, signal);
  const isGood = sight === "served" || sight === "unprobed";
  const detail = `after going back: ${verdict?.detail ?? ""}`;
  await journal.update({
    step: "idle",
    // As long as it is not back, it may have to be started again.
    ...(isGood ? { healthyBefore: null } : {}),
    told: isGood && served.told !== undefined ? { ...served.told, version } : null,
    notServed: isGood ? null : { version, since: clock.now(), detail },
    served: { ...served, version, at: clock.now() },
    ...acquitted,
  });
}

/** A crash came between the mark on the version and the journal: the charge is not known any more, but it must not be forgotten. */
function chargeAnew(context: AgentContext, installed: Installed): Partial<Pick<Journal, "quarantine" | "retries">> {
  const { served, quarantine } = context.journal.state;
  if (quarantine?.version === installed.version) return {};
  const row: Row = {
    name: "broke",
    way: "swap-back",
    start: true,
    harm: true,
    sentence: "the new set was taken back, and the agent was ended while it did so",
  };
  const news = newsOf(served, installed);
  return condemned(context, installed, { row, news, detail: installed.version, contents: null });
}

/** @returns what is to be forgotten when it was not the set's fault */
async function tellAgain(
  context: AgentContext,
  signal: AbortSignal,
): Promise<Partial<Pick<Journal, "quarantine" | "reloadSuspect" | "retries">>> {
  const { journal, log } = context;
  const { quarantine: charge, retries } = journal.state;
  if (charge?.row === "check-failed") return {};
  const { said, detail } = await tellServer(context, everything, signal);
  signal.throwIfAborted();
  if (said === "ok") return { reloadSuspect: false };
  if (said !== "refused" || charge === null || !refusals.has(charge.row)) return {};
  // A reload that refuses the set it served a moment ago would refuse each: only the probes can tell.
  log.error("reload-suspect", { why: detail });
  return { reloadSuspect: true, quarantine: null, retries: { ...retries, quarantine: fresh } };
}

const refusals: ReadonlySet<string> = new Set(["refused", "refused-unseen", "refused-unprobed"]);

async function lookForOld(context: AgentContext, fingerprint: string, signal: AbortSignal) {
  const { quarantine: charge, healthyBefore } = context.journal.state;
  // It has been waited for already, and nobody comes up by himself: every second more is an outage.
  const isDead = charge?.row === "died" && healthyBefore !== null && (await isDeaf(context));
  const startedAtOnce = isDead && (await start(context, signal));
  const seen = worstOf(await probeAll(context, fingerprint, signal));
  signal.throwIfAborted();
  if (startedAtOnce || seen.sight !== "dead" || healthyBefore === null) return seen;
  if (!(await start(context, signal))) return seen;
  const again = worstOf(await probeAll(context, fingerprint, signal));
  signal.throwIfAborted();
  return again;
}

/** @returns false when nothing says how */
async function start({ config, log }: AgentContext, signal: AbortSignal): Promise<boolean> {
  const started = await startServer(config, { signal });
  if (started !== null) log.warn("start", { ok: started.ok, detail: started.detail });
  return started !== null;
}

/** Nobody accepts a connection at any of the probes. */
async function isDeaf({ config }: AgentContext): Promise<boolean> {
  const answers = await Promise.all(config.probes.map((probe) => probeOnce({ ...probe, timeoutMs: deafAfterMs })));
  return answers.length > 0 && answers.every((answer) => "error" in answer && !answer.reachable);
}
