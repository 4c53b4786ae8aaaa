/** The arrows checked → staged → switched → reloaded → served, and the way back. */
import { createHash } from "node:crypto";
import { type AgentContext, arrow, failed, succeeded, WorkError } from "./context.ts";
import { type Desired, isAsDesired, needsTelling } from "./decide.ts";
import type { Installed } from "./install/installed.ts";
import { ensureLinks, inspectLinks, linkProblem } from "./install/links.ts";
import { factsOf, type FileName, type Material } from "./install/material.ts";
import { digestOf, editionOf, readRecipe, renderOutputs } from "./install/outputs.ts";
import { checkSizes, preflight, PreflightError } from "./install/preflight.ts";
import { stage } from "./install/stage.ts";
import { confirm, prune, quarantine, rollback, switchTo } from "./install/switch.ts";
import { InstallError } from "./install/target.ts";
import { fresh, newestLeaf, type Told } from "./journal.ts";
import { probeOnce, probeServed, type ProbeVerdict } from "./probe.ts";
import { runCheck } from "./reload/check.ts";
import { type Change, describe, everything } from "./reload/strategy.ts";

/** A look before and between: longer answers count as none. */
const lookTimeoutMs = 3000;

/** What should be on disk; null until there are a leaf in date and a trust bundle. */
export async function desiredSet(context: AgentContext): Promise<Desired | null> {
  const { journal, trust, view, clock } = context;
  const leaf = newestLeaf(journal.state);
  if (leaf === null || leaf.notAfter <= clock.now() || trust.trust.version === 0) return null;
  const { target } = context.config;
  // A template that is broken must not stop what has nothing to do with it: installing says what is wrong, and tries again.
  const recipe = await readRecipe(target).catch(() => null);
  const key = `${leaf.fingerprint} ${trust.revision} ${editionOf(recipe)}`;
  if (view.desired?.key === key) return view.desired.value;
  const files = recipe?.needs ?? target.files;
  const material = await materialOf(context, leaf.fingerprint, files);
  const made = recipe === null ? "unreadable" : digestOf(recipe, material.key);
  const facts = factsOf(material, { bundleVersion: trust.trust.version, stagedAt: 0 });
  const crls = files.includes("crl.pem") ? [...trust.trust.crls] : [];
  const value: Desired = {
    contents: digest([leaf.fingerprint, trust.trust.version, facts.crlNumbers, files, made]),
    fingerprint: leaf.fingerprint,
    notAfter: leaf.notAfter,
    bundleVersion: trust.trust.version,
    crlNumbers: facts.crlNumbers,
    revoked: digest(crls.map(([id, crl]) => `${id} ${crl.revoked}`).toSorted((a, b) => (a < b ? -1 : 1))),
    refreshAt: Math.min(...crls.map(([, crl]) => (crl.thisUpdate + crl.nextUpdate) / 2), Number.MAX_SAFE_INTEGER),
    ...(made === undefined ? {} : { recipe: made }),
  };
  view.desired = { key, value };
  return value;
}

/** Puts the desired set on disk, whole, in one switch. @throws PreflightError, InstallError, WorkError */
export async function install(context: AgentContext, installed: Installed | null): Promise<void> {
  const { config, journal, clock, log, trust } = context;
  const { target } = config;
  const desired = await desiredSet(context);
  if (desired === null) throw new WorkError("there is nothing to install yet");
  await arrow(context, "checked");
  const recipe = await readRecipe(target);
  const material = await materialOf(context, desired.fingerprint, recipe.needs);
  await check(context, material, recipe.needs, installed);
  const { current, next } = journal.state;
  const identity = [next, current].find((leaf) => leaf?.fingerprint === desired.fingerprint)?.identity ?? "";
  const files = await renderOutputs(target, recipe, material, identity);
  checkSizes(files, target.maxFileBytes);

  const known = journal.state.staging;
  const staging = known?.contents === desired.contents ? known : { contents: desired.contents, stagedAt: clock.now() };
  await arrow(context, "staged", { staging });
  const { bundleVersion } = desired;
  const recipeDigest = digestOf(recipe, material.key);
  const facts = factsOf(material, { bundleVersion, stagedAt: staging.stagedAt, recipe: recipeDigest });
  const { version } = await stage(target, files, facts);

  await arrow(context, "switched", { healthyBefore: await healthyNow(context) });
  await switchTo(target, version);
  context.checkpoint("link-switched");
  const { adopted } = await ensureLinks(target, { adopt: context.adopt });
  for (const { path, movedTo } of adopted) log.info("adopted", { path, movedTo });
  log.info("installed", { version, fingerprint: desired.fingerprint, bundle: trust.trust.version });
  // How often a set had to be taken back is forgotten when one is served, not when the next is tried.
  const { failures } = journal.state.retries.install;
  const retries = { ...journal.state.retries, install: { ...fresh, failures }, serve: fresh };
  await journal.update({ staging: null, stuck: null, retries });
  const { told, served, notServed } = journal.state;
  if (needsTelling(told, desired, clock.now()) || notServed !== null || served?.fingerprint !== desired.fingerprint)
    return;
  // A CRL that is merely fresher: the files have it, and the proxy is served from a good set already.
  await confirm(target, version);
  await prune(target);
  await journal.update({ step: "idle", served: { ...served, version } });
}

/** Makes the proxy load what is on disk and proves that it does. Notes in the journal how that went. */
export async function tell(context: AgentContext, installed: Installed, signal: AbortSignal): Promise<void> {
  const { config, journal, clock } = context;
  const desired = await desiredSet(context);
  if (desired === null || !isAsDesired(installed, desired)) return;
  await arrow(context, "reloaded");
  let reloadFailure = "";
  if (!(await servesAlready(context, installed))) {
    if (config.check !== null) {
      const checked = await runCheck(config.check, { signal });
      if (!checked.ok)
        return refuse(context, installed, `${config.check.join(" ")}: ${checked.detail}`, "check-failed");
    }
    const told = await context.reload(config.reload, {
      signal,
      target: config.target,
      change: changeOf(journal.state.told, desired),
    });
    const outcome = { ok: told.ok, how: describe(config.reload), detail: told.detail };
    if (told.ok) context.log.info("reload", outcome);
    else context.log.warn("reload", outcome);
    reloadFailure = told.ok ? "" : `; the reload had failed: ${told.detail}`;
    if (told.ok) await journal.update({ told: toldOf(installed, desired) });
    else if (config.probes.length === 0) return refuse(context, installed, told.detail, "not-served");
    context.checkpoint("proxy-told");
  }
  await arrow(context, "served");
  const verdicts = await probeAll(context, installed.fingerprint, signal);
  signal.throwIfAborted();
  const bad = verdicts.find((verdict) => verdict.outcome !== "served");
  if (bad === undefined) return accept(context, installed, toldOf(installed, desired), clock.now());
  await refuse(
    context,
    installed,
    `${bad.detail}${reloadFailure}`,
    bad.outcome === "broken" || bad.outcome === "unverified" ? "broke" : "not-served",
  );
}

/** Swaps back to the last good set, tells the proxy and looks. */
export async function rollBack(context: AgentContext, installed: Installed, signal: AbortSignal): Promise<void> {
  const { config, journal, clock, log } = context;
  const { served, told } = journal.state;
  await arrow(context, "switched");
  const version = await rollback(config.target);
  context.checkpoint("rolled-back");
  if (version === null) {
    log.error("no-way-back", { version: installed.version });
    return journal.update({ stuck: installed.version });
  }
  log.warn("rolled-back", { from: installed.version, to: version });
  context.count("rolled-back");
  if (told?.version === installed.version) await context.reload(config.reload, { signal, target: config.target });
  const verdicts = served === null ? [] : await probeAll(context, served.fingerprint, signal);
  signal.throwIfAborted();
  const bad = verdicts.find((verdict) => verdict.outcome !== "served");
  const notServed =
    bad === undefined ? null : { version, since: clock.now(), detail: `after going back: ${bad.detail}` };
  // Whatever is loaded now, the next set has to be told of anew.
  await journal.update({
    step: "idle",
    told: null,
    notServed,
    served: served === null ? null : { ...served, version, at: clock.now() },
  });
}

/** Is the installed leaf still what the proxy presents? Notes it when not. */
export async function look(context: AgentContext, installed: Installed, signal: AbortSignal): Promise<void> {
  const { journal, clock, view, log } = context;
  view.lookedAt = clock.now();
  if ((await wrongNow(context, installed.fingerprint)) === null) return;
  const verdicts = await probeAll(context, installed.fingerprint, signal);
  signal.throwIfAborted();
  const bad = verdicts.find((verdict) => verdict.outcome !== "served");
  if (bad === undefined) return;
  log.error("not-served", { version: installed.version, why: bad.detail });
  // Not the new set's doing: there is nothing to go back from.
  const notServed = { version: installed.version, since: clock.now(), detail: bad.detail };
  await journal.update({ notServed, healthyBefore: null, ...succeeded(context, "serve") });
}

/** The last good set can be served again: its leaf is in date and not revoked, and it is not the one installed. */
export function canGoBack({ journal, clock, trust }: AgentContext, installed: Installed): boolean {
  const { served, current } = journal.state;
  if (served === null || served.version === installed.version || served.notAfter <= clock.now()) return false;
  const isCurrent = current?.fingerprint === served.fingerprint;
  return !isCurrent || !trust.isRevoked(current.serial);
}

async function accept(
  context: AgentContext,
  installed: Installed,
  told: ReturnType<typeof toldOf>,
  now: number,
): Promise<void> {
  const { config, journal, view, log } = context;
  await confirm(config.target, installed.version);
  context.checkpoint("confirmed");
  view.lookedAt = now;
  const { version, fingerprint, notAfter } = installed;
  await journal.update({
    told,
    served: { version, fingerprint, notAfter, at: now },
    notServed: null,
    healthyBefore: null,
    stuck: null,
    ...(journal.state.next === null ? { step: "idle" as const } : {}),
    ...succeeded(context, "serve", "install"),
  });
  await prune(config.target);
  context.count("served");
  log.info("served", { version, fingerprint, probes: config.probes.length });
}

type Refusal = "check-failed" | "broke" | "not-served";

/** Goes back when the new set is what broke a proxy that was well; otherwise the files stay and the proxy is told again. */
async function refuse(context: AgentContext, installed: Installed, detail: string, why: Refusal): Promise<void> {
  const { config, journal, clock } = context;
  const { healthyBefore, notServed } = journal.state;
  const isToBlame = why === "check-failed" || (why === "broke" && healthyBefore !== null);
  if (isToBlame && canGoBack(context, installed)) {
    await quarantine(config.target, installed.version, detail);
    context.checkpoint("quarantined");
    const error = new WorkError(`the new set was taken back: ${detail}`, "taken-back");
    const change = failed(context, "install", {
      step: "served",
      error,
      outcome: "rolled-back",
      broke: why === "broke",
    });
    await journal.update({ staging: null, retries: { ...change.retries, serve: fresh } });
    return;
  }
  const error = new WorkError(`installed, not served: ${detail}`, "not-served");
  const { retries } = failed(context, "serve", {
    step: "served",
    error,
    outcome: why === "check-failed" ? why : "not-served",
  });
  await journal.update({
    notServed: { version: installed.version, since: notServed?.since ?? clock.now(), detail },
    retries,
  });
}

/** In memory, before anything touches the disk. */
async function check(
  context: AgentContext,
  material: Material,
  files: readonly FileName[],
  installed: Installed | null,
): Promise<void> {
  const { config, trust, clock } = context;
  for (const report of await inspectLinks(config.target)) {
    const problem = linkProblem(report, { adopt: context.adopt });
    if (problem !== null) throw new InstallError(problem);
  }
  try {
    preflight(material, {
      now: clock.now(),
      serverNames: config.probes.map((probe) => probe.serverName),
      trustedRoots: trust.trust.roots,
      files,
      installedCrlNumbers: installed?.crlNumbers ?? {},
    });
  } catch (error) {
    // Whatever is wrong with a CRL, a newer one may mend it.
    if (error instanceof PreflightError && error.check.startsWith("crl")) trust.checkedAt = null;
    throw error;
  }
}

async function materialOf(
  { credentials, trust }: AgentContext,
  leaf: string,
  files: readonly FileName[],
): Promise<Material> {
  const credential = await credentials.readLeaf(leaf);
  const { roots, issuers, crls } = trust.trust;
  const wanted = files.includes("crl.pem");
  return {
    key: credential.key,
    leaf: credential.leaf,
    chain: credential.chain,
    roots,
    issuers,
    crls: wanted ? [...crls.values()].map((crl) => crl.der) : [],
  };
}

/** The leaf that every probe shows before the switch, when that is the one that was served: only then can the new set be to blame. */
async function healthyNow(context: AgentContext): Promise<string | null> {
  const { served } = context.journal.state;
  if (served === null || context.config.probes.length === 0) return served?.fingerprint ?? null;
  return (await wrongNow(context, served.fingerprint)) === null ? served.fingerprint : null;
}

/** A proxy that came back by itself, or was told before a crash, needs no second reload. */
async function servesAlready(context: AgentContext, installed: Installed): Promise<boolean> {
  const { told, notServed } = context.journal.state;
  if (context.config.probes.length === 0 || told?.version !== installed.version || notServed === null) return false;
  return (await wrongNow(context, installed.fingerprint)) === null;
}

/** One handshake for each probe; null when all show the expected leaf, else what is wrong. */
async function wrongNow(context: AgentContext, expected: string): Promise<string | null> {
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

async function probeAll(
  context: AgentContext,
  expected: string,
  signal: AbortSignal,
): Promise<readonly ProbeVerdict[]> {
  const { config, clock, view, trust, journal } = context;
  const served = journal.state.served?.fingerprint ?? null;
  const expectation = { expected, previous: served === expected ? null : served, roots: trust.trust.roots, signal };
  const verdicts = await Promise.all(
    config.probes.map((probe) => probeServed(probe, { ...expectation, timeoutMs: probe.timeoutMs }, clock)),
  );
  view.sightings = verdicts.flatMap(({ fingerprint, at }, index) => {
    const probe = config.probes[index];
    if (fingerprint === null || probe === undefined) return [];
    return [{ address: probe.connect, serverName: probe.serverName, fingerprint, at: new Date(at).toISOString() }];
  });
  return verdicts;
}

function changeOf(told: Told | null, desired: Desired): Change {
  if (told === null) return everything;
  return {
    // Another recipe gives the files that hold the leaf another form: they are to be loaded like another leaf.
    leaf: told.fingerprint !== desired.fingerprint || told.recipe !== desired.recipe,
    trust: told.bundleVersion !== desired.bundleVersion,
    revoked: told.revoked !== desired.revoked,
    crls: JSON.stringify(told.crlNumbers) !== JSON.stringify(desired.crlNumbers),
  };
}

function toldOf(installed: Installed, desired: Desired) {
  const { version, fingerprint, bundleVersion, crlNumbers } = installed;
  const { revoked, refreshAt, recipe } = desired;
  const made = recipe === undefined ? {} : { recipe };
  return { version, fingerprint, bundleVersion, crlNumbers, revoked, refreshAt, ...made };
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
