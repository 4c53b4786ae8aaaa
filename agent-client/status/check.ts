/** `check`: everything that can be found wrong before it matters, without changing anything. */
import { X509Certificate } from "node:crypto";
import { access, constants, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "@newleaf/shared/clock";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { adviceFor } from "./advice.ts";
import { BundleError, readRoots } from "../trust/bundle.ts";
import type { AgentConfig, CertificateConfig } from "../config/config.ts";
import { readerProblem } from "./check-reader.ts";
import { canaryProblems, textfileProblem } from "./check-watching.ts";
import { explain } from "../context.ts";
import { checkTree } from "../install/access.ts";
import { openCredentials } from "../credentials.ts";
import { copyProblem, inspectCopies } from "../install/copies.ts";
import { inspectLinks, linkProblem } from "../install/links.ts";
import { readRecipe } from "../install/outputs.ts";
import { namesProblem } from "../install/preflight.ts";
import { impassableDirectory, resolveOwner } from "../install/owner.ts";
import type { Target } from "../install/target.ts";
import { newestLeaf } from "../decide/leaves.ts";
import { readJournal } from "../journal.ts";
import { lockHolder } from "../lock.ts";
import { probeOnce } from "../probe/probe.ts";
import { validateCheck } from "../reload/check.ts";
import { validateProgram } from "../reload/command.ts";
import { describe, validate } from "../reload/drivers.ts";
import { createServiceClient } from "../service-client.ts";
import type { SystemTrust } from "../trust/system-trust.ts";
import { readTrust } from "../trust/trust-store.ts";

export interface Finding {
  readonly level: "ok" | "warn" | "fail";
  readonly what: string;
}

const probeTimeoutMs = 5000;
const largestSkewMs = 60_000;

const ok = (what: string): Finding => ({ level: "ok", what });
const warn = (what: string): Finding => ({ level: "warn", what });
const fail = (what: string): Finding => ({ level: "fail", what });

/** Findings as they are made. Never throws. */
export async function* runChecks(config: AgentConfig, clock: Clock): AsyncGenerator<Finding> {
  yield ok("the configuration has no unknown keys and no impossible values");
  yield await checkState(config.state);
  if (config.systemTrust !== null) yield* checkSystemTrust(config.systemTrust);
  if (config.textfile !== null) {
    const problem = await textfileProblem(config.textfile);
    yield problem === null ? ok(`textfile ${config.textfile}`) : fail(`textfile: ${problem}`);
  }
  yield* checkService(config, clock);
  for (const certificate of config.certificates) {
    for await (const finding of checkCertificate(certificate, config.state, clock))
      yield { ...finding, what: `${certificate.name}: ${finding.what}` };
  }
}

async function checkState(state: string): Promise<Finding> {
  try {
    const { mode } = await stat(state);
    if ((mode & 0o077) !== 0) return fail(`others can read the state directory ${state}; run: chmod 700 ${state}`);
    await access(state, constants.R_OK | constants.W_OK | constants.X_OK);
    const holder = await lockHolder(state);
    return ok(`state directory ${state}${holder === null ? "" : `, in use by ${holder}`}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      return fail(`state directory ${state}: ${(error as Error).message}`);
    const parent = await firstExisting(dirname(state));
    const isWritable = await canWrite(parent);
    return isWritable
      ? ok(`state directory ${state} will be made`)
      : fail(`state directory ${state} cannot be made: ${parent} is not writable`);
  }
}

async function* checkSystemTrust({ directory, command }: SystemTrust): AsyncGenerator<Finding> {
  yield (await canWrite(directory))
    ? ok(`systemTrust: ${directory}`)
    : fail(
        `systemTrust: ${directory} is not there or not writable: install ca-certificates, and run the agent as root`,
      );
  for (const problem of await validateProgram(command, {})) yield fail(`systemTrust: ${problem}`);
}

async function* checkService(config: AgentConfig, clock: Clock): AsyncGenerator<Finding> {
  let anchors: readonly Buffer[];
  try {
    anchors = await knownRoots(config, clock);
  } catch (error) {
    yield fail(explain(error).message);
    return;
  }
  for (const root of anchors) yield ok(`trusted root ${fingerprint(root)}`);
  const client = createServiceClient({ ...config, roots: () => anchors, clock });
  try {
    if (anchors.length === 0 && config.rootFingerprint === null) {
      yield warn("no root is known yet: enroll with a token, or set roots or rootFingerprint");
      return;
    }
    if (anchors.length === 0) {
      const offered = readRoots(await client.unverifiedRoots(), "what the service calls its roots");
      const found = offered.some((root) => fingerprint(root) === config.rootFingerprint);
      yield found
        ? ok("the service has the root of rootFingerprint")
        : fail(`the service does not have the root ${config.rootFingerprint}`);
      anchors = offered.filter((root) => fingerprint(root) === config.rootFingerprint);
      if (!found) return;
    }
    const answer = await client.bundle(null, null);
    yield ok(`enrollment listener ${config.enrollment}, trust bundle ${answer?.bundle.version}`);
    const skew = client.skewMs ?? 0;
    const seconds = (Math.abs(skew) / 1000).toFixed(1);
    yield Math.abs(skew) > largestSkewMs
      ? fail(`this host's clock is ${seconds} s ${skew > 0 ? "ahead of" : "behind"} the service's`)
      : ok(`clock within ${seconds} s of the service's`);
  } catch (error) {
    yield fail(advised(explain(error)));
  }
  yield* checkAgentsListener(config, client);
}

/** Nobody may speak there without a leaf: that it refuses us is the proof that it is there. */
async function* checkAgentsListener(
  config: AgentConfig,
  client: ReturnType<typeof createServiceClient>,
): AsyncGenerator<Finding> {
  try {
    await client.renewalWindow({ pem: { cert: "", key: "" } });
    yield fail(`agents listener ${config.server} answers without a client certificate; is that address right?`);
  } catch (error) {
    const problem = explain(error);
    yield problem.code === "client-certificate-required" || problem.code === "tls"
      ? ok(`agents listener ${config.server}`)
      : fail(advised(problem));
  }
}

function advised({ code, message }: { readonly code: string; readonly message: string }): string {
  const advice = adviceFor(code);
  return advice === null ? message : `${message}: ${advice}`;
}

async function knownRoots(config: AgentConfig, clock: Clock): Promise<readonly Buffer[]> {
  const { anchors } = await readTrust(config.state, clock.now());
  if (config.roots === null) return anchors;
  let text: string;
  try {
    text = await readFile(config.roots, "utf8");
  } catch (error) {
    throw new BundleError(
      `the roots file cannot be read: ${(error as Error).message}; copy roots.pem from the service's data directory there, or leave \`roots\` out and enroll with a token`,
    );
  }
  const file = readRoots(text, config.roots);
  return [...anchors, ...file.filter((root) => !anchors.some((known) => known.equals(root)))];
}

async function* checkCertificate(certificate: CertificateConfig, state: string, clock: Clock): AsyncGenerator<Finding> {
  const { target } = certificate;
  const parent = await firstExisting(target.directory);
  yield (await canWrite(parent))
    ? ok(`directory ${target.directory}`)
    : fail(`directory ${target.directory}: ${parent} is not writable for this user`);
  try {
    await checkTree(target);
    const owner = await resolveOwner(target);
    const wall = await impassableDirectory(parent, owner);
    yield wall === null
      ? ok(`owner ${owner.uid}:${owner.gid} can reach it`)
      : fail(`the owner (uid ${owner.uid}) cannot pass ${wall} on the way to the files`);
    const unread = await readerProblem(certificate.reload, target, owner);
    if (unread !== null) yield warn(unread);
  } catch (error) {
    yield fail(explain(error).message);
  }
  yield* checkOutputs(target);
  const how = `reload (${describe(certificate.reload)})`;
  const reloadProblems = await validate(certificate.reload, { target });
  for (const problem of reloadProblems) yield fail(`${how}: ${problem}`);
  if (reloadProblems.length === 0) yield ok(how);
  if (certificate.check !== null) {
    const problems = await validateCheck(certificate.check);
    for (const problem of problems) yield fail(`check: ${problem}`);
    if (problems.length === 0) yield ok(`check ${certificate.check.join(" ")} can be started; it is not run here`);
  }
  yield* checkPrograms(certificate);
  if (certificate.probes.length === 0)
    yield warn("probe: none, so nothing will prove that a renewed certificate is served");
  const unnamed = await unnamedProblem(certificate, state);
  if (unnamed !== null) yield fail(`probe: ${unnamed}`);
  for (const probe of certificate.probes) {
    const answer = await probeOnce({ ...probe, timeoutMs: probeTimeoutMs });
    // Before the first enrollment there is often nothing to serve yet.
    yield "error" in answer
      ? warn(`probe ${answer.error}`)
      : ok(`probe ${probe.connect} presents ${answer.fingerprint}`);
    if (probe.canary === undefined) continue;
    const problems = await canaryProblems(probe.canary, clock.now());
    for (const problem of problems) yield warn(`canary: ${problem}`);
    if (problems.length === 0) yield ok(`canary ${probe.connect}: can be sent; it is not sent here`);
  }
}

/** No set is installed whose leaf lacks a probe's name: known before the next renewal, where a leaf is held. */
async function unnamedProblem({ name, probes }: CertificateConfig, state: string): Promise<string | null> {
  const directory = join(state, name);
  try {
    const leaf = newestLeaf(await readJournal(directory));
    if (leaf === null) return null;
    const { pem } = await (await openCredentials(directory)).readLeaf(leaf.fingerprint);
    return namesProblem(
      new X509Certificate(pem.cert),
      probes.map((probe) => probe.serverName),
    );
  } catch {
    // What is damaged there is said by `status`.
    return null;
  }
}

async function* checkOutputs(target: Target): AsyncGenerator<Finding> {
  try {
    for (const report of await inspectLinks(target)) {
      const problem = linkProblem(report, { adopt: false });
      yield problem === null ? ok(`link ${report.path}`) : fail(problem);
    }
    for (const report of await inspectCopies(target)) {
      const problem = copyProblem(report, { adopt: false });
      yield problem === null ? ok(`copy ${report.path}`) : fail(problem);
    }
    await readRecipe(target);
    for (const { from, name } of target.templates ?? []) yield ok(`template ${from} for ${name}`);
    if (target.stores !== undefined) yield ok(`passphrase file ${target.stores.passphraseFile}`);
  } catch (error) {
    yield fail(explain(error).message);
  }
}

async function* checkPrograms({ start, beforeSwitch }: CertificateConfig): AsyncGenerator<Finding> {
  const programs = { start, "the command of beforeSwitch": beforeSwitch?.argv ?? null };
  for (const [what, argv] of Object.entries(programs)) {
    if (argv === null) continue;
    const problems = await validateCheck(argv);
    for (const problem of problems) yield fail(`${what}: ${problem}`);
    if (problems.length === 0) yield ok(`${what} ${argv.join(" ")} can be started; it is not run here`);
  }
}

async function firstExisting(path: string): Promise<string> {
  try {
    await stat(path);
    return path;
  } catch {
    return path === dirname(path) ? path : firstExisting(dirname(path));
  }
}

async function canWrite(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
