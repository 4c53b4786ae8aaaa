/** The sets that could be on disk: the newest leaf held, or the one in force, each with the trust bundle and the CRLs held. */
import { createHash } from "node:crypto";
import { type Choice, crlsOf, type Desired } from "./decide/choice.ts";
import { type AgentContext, arrow } from "./context.ts";
import type { Installed } from "./install/installed.ts";
import { checkCopies } from "./install/copies.ts";
import { inspectLinks, linkProblem } from "./install/links.ts";
import { factsOf, type FileName, type Material } from "./install/material.ts";
import { digestOf, editionOf, readRecipe, renderOutputs } from "./install/outputs.ts";
import { checkSizes, preflight, PreflightError } from "./install/preflight.ts";
import { stage } from "./install/stage.ts";
import { prune } from "./install/switch.ts";
import { InstallError } from "./install/target.ts";
import { newestLeaf } from "./decide/leaves.ts";
import type { Journal, Told } from "./journal.ts";
import { type Change, everything } from "./reload/strategy.ts";

const maxRemembered = 8;

/** What `chooseSet` chooses from. */
export async function choiceOf(context: AgentContext, installed: Installed | null): Promise<Choice> {
  const { journal, clock, trust, config } = context;
  const { current, next } = journal.state;
  const now = clock.now();
  const newest = newestLeaf(journal.state);
  const hasOlder = next !== null && current !== null && current.fingerprint === installed?.fingerprint;
  const older =
    installed === null || installed.fingerprint === newest?.fingerprint
      ? undefined
      : serialOf(journal.state, installed);
  const revoked = older !== undefined && trust.isRevoked(older);
  return {
    now,
    journal: journal.state,
    desired: newest === null ? null : await setOf(context, newest),
    fallback: hasOlder && !revoked ? await setOf(context, current) : null,
    installed,
    revoked,
    beforeSwitch: config.beforeSwitch,
  };
}

/** Undefined when it is not known which leaf is installed. */
function serialOf({ current, served }: Journal, { fingerprint }: Pick<Installed, "fingerprint">): string | undefined {
  return [current, served].find((leaf) => leaf?.fingerprint === fingerprint)?.serial;
}

/** Null when the leaf is not in date, or there is no trust bundle yet. */
async function setOf(
  context: AgentContext,
  leaf: { readonly fingerprint: string; readonly notAfter: number },
): Promise<Desired | null> {
  const { trust, view, clock } = context;
  if (leaf.notAfter <= clock.now() || trust.trust.version === 0) return null;
  const { target } = context.config;
  // A template that is broken must not stop what has nothing to do with it: installing says what is wrong, and tries again.
  const recipe = await readRecipe(target).catch(() => null);
  const key = `${leaf.fingerprint} ${trust.revision} ${editionOf(recipe)}`;
  const known = view.sets.get(key);
  if (known !== undefined) return known;
  const files = recipe?.needs ?? target.files;
  const material = await materialOf(context, leaf.fingerprint, files);
  const made = recipe === null ? "unreadable" : digestOf(recipe, material.key);
  const { crlNumbers } = factsOf(material, { bundleVersion: trust.trust.version, stagedAt: 0 });
  const crls = files.includes("crl.pem") ? [...trust.trust.crls] : [];
  const set: Desired = {
    contents: digest([leaf.fingerprint, trust.trust.version, crlNumbers, files, made]),
    fingerprint: leaf.fingerprint,
    notAfter: leaf.notAfter,
    bundleVersion: trust.trust.version,
    crlNumbers,
    revoked: revokedBy(crls),
    refreshAt: Math.min(...crls.map(([, crl]) => (crl.thisUpdate + crl.nextUpdate) / 2), Number.MAX_SAFE_INTEGER),
    crlsUntil: Math.min(...crls.map(([, crl]) => crl.nextUpdate), Number.MAX_SAFE_INTEGER),
    ...(made === undefined ? {} : { recipe: made }),
  };
  if (view.sets.size >= maxRemembered) view.sets.clear();
  view.sets.set(key, set);
  return set;
}

/**
 * The arrows checked → staged: judges the set in memory, then writes it beside the one in force. The same set again finds the same
 * version. @returns the version @throws PreflightError, InstallError
 */
export async function prepare(context: AgentContext, set: Desired, installed: Installed | null): Promise<string> {
  const { config, journal, clock } = context;
  const { target } = config;
  await arrow(context, "checked");
  const recipe = await readRecipe(target);
  const material = await materialOf(context, set.fingerprint, recipe.needs);
  await check(context, material, recipe.needs, installed);
  const { current, next } = journal.state;
  const identity = [next, current].find((leaf) => leaf?.fingerprint === set.fingerprint)?.identity ?? "";
  const files = await renderOutputs(target, recipe, material, identity);
  checkSizes(files, target.maxFileBytes);
  await checkCopies(target, files, { adopt: context.adopt });

  const known = journal.state.staging;
  const staging = known?.contents === set.contents ? known : { contents: set.contents, stagedAt: clock.now() };
  await arrow(context, "staged", { staging });
  const { bundleVersion } = set;
  const recipeDigest = digestOf(recipe, material.key);
  const facts = factsOf(material, { bundleVersion, stagedAt: staging.stagedAt, recipe: recipeDigest });
  // Sets that were never served are not pruned afterwards: where something spoils each of them they must not fill the disk.
  if (installed !== null) await prune(target);
  const { version } = await stage(target, files, facts);
  return version;
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

/** What of the set on disk is news to the proxy. @param set the one on disk; null when that is none that could be made now */
export function changeOf(told: Told | null, set: Desired | null): Change {
  if (told === null || set === null) return everything;
  return {
    // Another recipe gives the files that hold the leaf another form: they are to be loaded like another leaf.
    leaf: told.fingerprint !== set.fingerprint || told.recipe !== set.recipe,
    trust: told.bundleVersion !== set.bundleVersion,
    revoked: told.revoked !== set.revoked,
    crls: crlsOf(told) !== crlsOf(set),
  };
}

/** What the proxy knows once it was told of the files on disk. */
export function toldOf(installed: Installed, set: Desired | null, before: Told | undefined): Told {
  const { version, fingerprint, bundleVersion, crlNumbers, recipe } = installed;
  const known = set ?? before;
  return {
    version,
    fingerprint,
    bundleVersion,
    crlNumbers,
    revoked: known?.revoked ?? "",
    refreshAt: known?.refreshAt ?? 0,
    ...(known?.crlsUntil === undefined ? {} : { crlsUntil: known.crlsUntil }),
    ...(recipe === undefined ? {} : { recipe }),
  };
}

/** Digest of what these CRLs (by the id of their CA) revoke; fresher ones that revoke the same have the same. */
export function revokedBy(crls: Iterable<readonly [string, { readonly revoked: string }]>): string {
  return digest([...crls].map(([id, crl]) => `${id} ${crl.revoked}`).toSorted((a, b) => (a < b ? -1 : 1)));
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
