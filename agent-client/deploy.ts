/** The arrows checked → staged → announced → switched → reloaded → served. The way back is in way-back.ts. */
import { announcedAt, chooseSet, type Desired, isAsDesired, needsTelling } from "./decide/choice.ts";
import { type AgentContext, arrow, failed, succeeded, WorkError } from "./context.ts";
import { type Installed, readInstalled } from "./install/installed.ts";
import { ensureLinks } from "./install/links.ts";
import { confirm, prune, rollback, switchTo } from "./install/switch.ts";
import { InstallError } from "./install/target.ts";
import { fresh, type Told } from "./journal.ts";
import { runCheck } from "./reload/check.ts";
import { startServer } from "./reload/start.ts";
import { runProgram, systemSearchPath } from "./reload/run-program.ts";
import { type Aftermath, judge, type Row, type Sight, worstOf } from "./decide/rollback.ts";
import { changeOf, choiceOf, prepare, toldOf } from "./sets.ts";
import { areCanariesDue, healthyNow, probeAll, wrongNow } from "./sight.ts";
import { aftermathOf, takeBack, tellServer } from "./way-back.ts";

/**
 * Tells those who pin leaves of the next one, by the operator's command, once it is sure that the next one can be installed.
 * @throws PreflightError, InstallError, WorkError when the command fails
 */
export async function announce(context: AgentContext, installed: Installed | null, signal: AbortSignal): Promise<void> {
  const { config, journal, clock, log } = context;
  const { desired } = await choiceOf(context, installed);
  if (desired === null || installed === null || config.beforeSwitch === null) return;
  await prepare(context, desired, installed);
  await arrow(context, "announced");
  const { argv, timeoutMs, waitMs } = config.beforeSwitch;
  const env = {
    NEWLEAF_CERTIFICATE: config.name,
    NEWLEAF_NEXT_FINGERPRINT: desired.fingerprint,
    NEWLEAF_NEXT_FINGERPRINT_HEX: desired.fingerprint.slice("sha256:".length),
    NEWLEAF_NEXT_NOT_AFTER: new Date(desired.notAfter).toISOString(),
    NEWLEAF_CURRENT_FINGERPRINT: installed.fingerprint,
    NEWLEAF_CURRENT_FINGERPRINT_HEX: installed.fingerprint.slice("sha256:".length),
  };
  const { ok, detail } = await runProgram(argv, { timeoutMs, searchPath: systemSearchPath, signal, env });
  signal.throwIfAborted();
  if (!ok) throw new WorkError(`the command of beforeSwitch failed: ${detail}`, "before-switch");
  context.checkpoint("command-run");
  const at = clock.now();
  await journal.update({ announced: { fingerprint: desired.fingerprint, at }, ...succeeded(context, "announce") });
  log.info("announced", { fingerprint: desired.fingerprint, switch: new Date(at + waitMs).toISOString() });
}

/** Puts the set that should be there on disk, whole, in one switch. @throws PreflightError, InstallError, WorkError */
export async function install(context: AgentContext, installed: Installed | null, signal: AbortSignal): Promise<void> {
  const { config, journal, clock, log, trust } = context;
  const { target } = config;
  const set = chooseSet(await choiceOf(context, installed));
  if (set === null) throw new WorkError("there is nothing to install yet");
  const version = await prepare(context, set, installed);
  if (installed !== null && installed.fingerprint !== set.fingerprint) warnUnannounced(context, set);

  await arrow(context, "switched", { healthyBefore: await healthyNow(context, signal) });
  const { adopt, checkpoint } = context;
  const copies = await switchTo(target, version, { adopt, checkpoint });
  checkpoint("link-switched");
  const links = await ensureLinks(target, { adopt });
  for (const { path, movedTo } of [...copies.adopted, ...links.adopted]) log.info("adopted", { path, movedTo });
  await assertIntact(context, version);
  log.info("installed", { version, fingerprint: set.fingerprint, bundle: trust.trust.version });
  await journal.update({ staging: null, stuck: null, ...succeeded(context, "install", "announce", "serve") });
  const { told, served, notServed } = journal.state;
  if (needsTelling(told, set, clock.now()) || notServed !== null || served?.fingerprint !== set.fingerprint) return;
  // A CRL that is merely fresher: the files have it, and the proxy is served from a good set already.
  await confirm(target, version);
  await prune(target);
  await journal.update({ step: "idle", served: { ...served, version } });
}

/**
 * The proxy is never told of a set that another hand has already changed. It must not start from it either: the set before is put
 * back when that is whole, and there is a pause before the next attempt.
 */
async function assertIntact({ config, log }: AgentContext, version: string): Promise<void> {
  const { target } = config;
  const found = await readInstalled(target);
  if (found?.version === version && found.complete) return;
  const what =
    found === null ? "it is gone" : found.version === version ? found.problems.join("; ") : "it is another set";
  const back = found?.version === version ? await rollback(target) : null;
  if (back !== null) log.warn("rolled-back", { from: version, to: back });
  throw new InstallError(
    `right after the switch the files on disk are not what was written: ${what}. Find out who else changes ${target.directory}`,
  );
}

/** An expired leaf would lock out everybody, a new one only those who pin and were not told. */
function warnUnannounced({ config, journal, clock, log }: AgentContext, { fingerprint }: Desired): void {
  const { beforeSwitch } = config;
  const now = clock.now();
  if (beforeSwitch === null) return;
  const at = announcedAt(journal.state, fingerprint, now);
  if (at !== null && at + beforeSwitch.waitMs <= now) return;
  const why = at === null ? "the command of beforeSwitch never succeeded" : "its wait is not over";
  log.error("switched-unannounced", { fingerprint, why: `${why}, and the certificate before is about to end` });
}

/** Makes the proxy load what is on disk and proves that it does. Notes in the journal how that went. */
export async function tell(context: AgentContext, installed: Installed, signal: AbortSignal): Promise<void> {
  const { config, journal } = context;
  const choice = await choiceOf(context, installed);
  const chosen = chooseSet(choice);
  // While something newer waits, what is on disk may be a set that could not be made any more.
  const set = chosen !== null && isAsDesired(installed, chosen) ? chosen : null;
  const isNewest = set !== null && set.contents === choice.desired?.contents;
  const base = { told: toldOf(installed, set, journal.state.served?.told), set, isNewest };
  await arrow(context, "reloaded");
  let reload: Aftermath["reload"] = "ok";
  let complaint = "";
  if (!(await servesAlready(context, installed))) {
    if (config.check !== null) {
      const checked = await runCheck(config.check, { signal });
      signal.throwIfAborted();
      const { detail } = checked;
      if (!checked.ok) return settle(context, installed, { ...base, reload, sight: "check-failed", detail }, signal);
    }
    const answer = await tellServer(context, changeOf(journal.state.told, set), signal);
    signal.throwIfAborted();
    reload = answer.said;
    complaint = reload === "ok" ? "" : `; the reload had failed: ${answer.detail}`;
    if (reload === "ok") await journal.update({ told: base.told, reloadSuspect: false });
    context.checkpoint("proxy-told");
  }
  await arrow(context, "served");
  const { sight, verdict } = worstOf(await probeAll(context, installed.fingerprint, signal));
  signal.throwIfAborted();
  const detail = `${verdict?.detail ?? "nothing is probed"}${complaint}`;
  await settle(context, installed, { ...base, reload, sight, detail }, signal);
}

interface Seen {
  readonly told: Told;
  readonly set: Desired | null;
  /** Nothing newer waits. */
  readonly isNewest: boolean;
  readonly reload: Aftermath["reload"];
  readonly sight: Sight;
  readonly detail: string;
}

/** Does what the table says. */
async function settle(context: AgentContext, installed: Installed, seen: Seen, signal: AbortSignal): Promise<void> {
  const { sight, reload, detail, set } = seen;
  const aftermath = aftermathOf(context, installed, { sight, reload });
  const row = judge(aftermath);
  if (row.way === "commit") return accept(context, installed, seen);
  if (row.way === "swap-back") {
    return takeBack(context, installed, { row, news: aftermath.news, detail, contents: set?.contents ?? null });
  }
  await keep(context, installed, row, detail);
  if (!row.start) return;
  const started = await startServer(context.config, { signal });
  if (started !== null) context.log.warn("start", { ok: started.ok, detail: started.detail });
}

async function accept(context: AgentContext, installed: Installed, { told, isNewest, detail }: Seen): Promise<void> {
  const { config, journal, view, log, clock } = context;
  await confirm(config.target, installed.version);
  context.checkpoint("confirmed");
  view.lookedAt = clock.now();
  const { version, fingerprint, notAfter } = installed;
  const { quarantine, retries, current, next } = journal.state;
  const serial = [current, next].find((leaf) => leaf?.fingerprint === fingerprint)?.serial;
  await journal.update({
    told,
    served: { version, fingerprint, notAfter, at: clock.now(), ...(serial === undefined ? {} : { serial }), told },
    notServed: null,
    healthyBefore: null,
    stuck: null,
    quarantine: isNewest ? null : quarantine,
    ...(journal.state.next === null ? { step: "idle" as const } : {}),
    retries: { ...retries, serve: fresh, install: fresh, ...(isNewest ? { quarantine: fresh } : {}) },
  });
  await prune(config.target);
  context.count("served");
  log.info("served", { version, fingerprint, probes: config.probes.length, detail });
}

/** Keeps the files, and tells again after a pause. */
async function keep(context: AgentContext, installed: Installed, row: Row, detail: string): Promise<void> {
  const { journal, clock, log } = context;
  const { notServed } = journal.state;
  const isAlarm = row.way === "keep-and-alarm";
  const error = new WorkError(`${row.sentence}: ${detail}`, isAlarm ? row.name : "not-served");
  const outcome = row.name.startsWith("check-failed") ? "check-failed" : "not-served";
  const { retries } = failed(context, "serve", { step: "served", error, outcome });
  if (isAlarm) log.error("alarm", { row: row.name, why: row.sentence });
  await journal.update({
    notServed: { version: installed.version, since: notServed?.since ?? clock.now(), detail, row: row.name },
    retries,
  });
}

/** Is the installed leaf still what the proxy presents? Notes it when not. */
export async function look(context: AgentContext, installed: Installed, signal: AbortSignal): Promise<void> {
  const { journal, clock, view, log } = context;
  view.lookedAt = clock.now();
  if ((await wrongNow(context, installed.fingerprint)) === null && !areCanariesDue(context)) return;
  const verdicts = await probeAll(context, installed.fingerprint, signal);
  signal.throwIfAborted();
  // A server that is served and turned ill later has another trouble than its certificate.
  const ill = verdicts.filter(({ outcome }) => outcome === "unhealthy");
  for (const { detail } of ill) log.warn("unhealthy", { why: detail });
  const { sight, verdict } = worstOf(verdicts.filter((one) => !ill.includes(one)));
  if (sight === "served" || verdict === null) return;
  log.error("not-served", { version: installed.version, why: verdict.detail });
  // Not the new set's doing: there is nothing to go back from.
  const notServed = { version: installed.version, since: clock.now(), detail: verdict.detail };
  await journal.update({ notServed, healthyBefore: null, ...succeeded(context, "serve") });
}

const clientRows: ReadonlySet<string> = new Set<Row["name"]>(["revoked-let-in", "clients-refused-for-good"]);
/** What a reload did not mend by then is not its to mend, and each leaves an old worker behind. */
const mostReloadsForClients = 3;

/** A proxy that came back by itself, or was told before a crash, needs no second reload. */
async function servesAlready(context: AgentContext, installed: Installed): Promise<boolean> {
  const { told, notServed, served, retries } = context.journal.state;
  // Who is let in is not seen in the leaf: a reload that did nothing may do something the next time.
  if (clientRows.has(notServed?.row ?? "") && retries.serve.failures <= mostReloadsForClients) return false;
  const isNews = notServed !== null || served?.version !== installed.version;
  if (context.config.probes.length === 0 || told?.version !== installed.version || !isNews) return false;
  return (await wrongNow(context, installed.fingerprint)) === null;
}
