/** What each command of `newleaf-agent` does, between the configuration and the exit code. */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { keyFingerprint } from "@newleaf/shared/fingerprint";
import { NetworkError } from "@newleaf/shared/http-client";
import { AppError } from "@newleaf/shared/problems";
import { readToken } from "@newleaf/shared/token";
import { adviceFor, adviceForSystem, workWords } from "./status/advice.ts";
import { passOnce, type PassResult } from "./agent.ts";
import { type AgentApp, type AgentOverrides, openAgent, UsageError } from "./app.ts";
import { runChecks } from "./status/check.ts";
import { loadConfig } from "./config/config.ts";
import { type AgentContext, explain } from "./context.ts";
import { newestLeaf } from "./decide/leaves.ts";
import { retryKinds } from "./journal.ts";
import { type Enrollment, enroll, enrollmentKey, pollEnrollment } from "./request.ts";
import { formatStatus, readStatus } from "./status/status.ts";
import { sleep } from "./wake.ts";

export interface Terminal {
  out(text: string): void;
  error(text: string): void;
}

/** 0 done, 1 refused or failed, 2 wrong usage. */
export type ExitCode = 0 | 1 | 2;

export interface EnrollOptions {
  readonly config: string;
  readonly name: string | null;
  /** The token itself, from wherever it came. */
  readonly token: string | null;
  readonly waitForApproval: boolean;
  readonly adopt: boolean;
}

/** Gets the first certificate, installs it and proves it, like a renewal. */
export async function enrollCommand(
  options: EnrollOptions,
  terminal: Terminal,
  signal: AbortSignal,
  overrides: AgentOverrides = {},
): Promise<ExitCode> {
  const config = loadConfig(options.config);
  await using app = await openAgent(config, { purpose: "enroll", name: options.name, adopt: options.adopt }, overrides);
  if (options.token !== null && app.agents.length > 1) {
    const names = app.agents.map((agent) => agent.config.name).join(", ");
    throw new UsageError(`a token is for one certificate: say which with --name (${names})`);
  }
  let worst: ExitCode = 0;
  for (const agent of app.agents) {
    const code = await enrollOne(app, agent, options, terminal, signal);
    if (code !== 0) worst = code;
  }
  return (await renewSystemTrust(app, terminal)) ? worst : 1;
}

/** What `systemTrust` asks for, once; false when it failed. */
async function renewSystemTrust({ systemTrust }: AgentApp, terminal: Terminal): Promise<boolean> {
  if (systemTrust === null || (await systemTrust.sync({ now: true }))) return true;
  terminal.error(`systemTrust: ${systemTrust.failure?.message}\n`);
  return false;
}

async function enrollOne(
  app: AgentApp,
  agent: AgentContext,
  options: EnrollOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<ExitCode> {
  const { name } = agent.config;
  const { state } = agent.journal;
  const held = newestLeaf(state);
  const isUsable = held !== null && held.notAfter > agent.clock.now();
  const isSpent = options.token === null || readToken(options.token).secretHash === state.token;
  if (isUsable && isSpent) {
    terminal.out(`${name}: already enrolled as ${held.identity}, until ${new Date(held.notAfter).toISOString()}\n`);
    return finish(agent, await passOnce(agent, { force: false }, signal), terminal);
  }
  if (options.token !== null && app.trust.anchors.length === 0)
    await app.trust.meet(readToken(options.token).rootFingerprint);
  await app.trust.ensureAnchors();
  terminal.out(`${name}: key ${keyFingerprint(await enrollmentKey(agent, options.token !== null))}\n`);
  let outcome = await enroll(agent, options.token);
  if (outcome.kind === "pending") {
    const id = agent.journal.state.request?.pendingId ?? "";
    const who = options.token === null ? "an operator" : "a second operator";
    terminal.out(`${name}: waits for ${who}, request ${id}: newleaf approvals approve ${id} ID\n`);
    // With a token somebody has said yes already: the host is expected, and what it waits for is on its way.
    if (!options.waitForApproval && options.token === null) {
      terminal.error(
        `${name}: not enrolled yet. Run the same again when it is approved, or with --wait-for-approval, or let "run" wait\n`,
      );
      return 1;
    }
    outcome = await waitForApproval(agent, { id, token: options.token, first: outcome }, signal);
  }
  if (outcome.kind !== "received") return 1;
  const leaf = newestLeaf(agent.journal.state);
  terminal.out(`${name}: enrolled as ${leaf?.identity}, serial ${leaf?.serial}\n`);
  return finish(agent, await passOnce(agent, { force: false }, signal), terminal, "enrolled");
}

/** Asks again until an operator has decided. @throws AppError when the answer is no */
async function waitForApproval(
  agent: AgentContext,
  { id, token, first }: { readonly id: string; readonly token: string | null; readonly first: Enrollment },
  signal: AbortSignal,
): Promise<Enrollment> {
  let outcome = first;
  while (outcome.kind === "pending" && !signal.aborted) {
    // A little apart, so that a fleet that waits together does not ask together.
    await sleep(Math.min(longestPollMs, outcome.retryAfterSeconds * 1000) * (0.8 + 0.4 * agent.random()), signal);
    try {
      outcome = await pollEnrollment(agent, id, token);
    } catch (error) {
      if (error instanceof AppError && error.code === "not-found") return enroll(agent, token);
      if (!(error instanceof NetworkError)) throw error;
      agent.log.warn("poll-failed", { why: error.message });
    }
  }
  return outcome;
}

/** Makes the key of the first enrollment when there is none and prints its fingerprint. */
export async function keyCommand(
  options: { readonly config: string; readonly name: string | null },
  terminal: Terminal,
  overrides: AgentOverrides = {},
): Promise<ExitCode> {
  const config = loadConfig(options.config);
  await using app = await openAgent(config, { purpose: "key", name: options.name }, overrides);
  for (const agent of app.agents) {
    const fingerprint = keyFingerprint(await enrollmentKey(agent, false));
    terminal.out(app.agents.length === 1 ? `${fingerprint}\n` : `${agent.config.name} ${fingerprint}\n`);
  }
  return 0;
}

/** The daemon: until SIGTERM or SIGINT. */
export async function runCommand(
  options: { readonly config: string; readonly adopt: boolean },
  signal: AbortSignal,
  overrides: AgentOverrides = {},
): Promise<ExitCode> {
  const config = loadConfig(options.config);
  await using app = await openAgent(config, { purpose: "run", name: null, adopt: options.adopt }, overrides);
  await app.run(signal);
  return 0;
}

export interface RenewOptions {
  readonly config: string;
  readonly name: string | null;
  readonly force: boolean;
  readonly adopt: boolean;
}

/** One pass, for timers and init containers. 0 also when nothing was due, 1 when installed but not served. */
export async function renewCommand(
  options: RenewOptions,
  terminal: Terminal,
  signal: AbortSignal,
  overrides: AgentOverrides = {},
): Promise<ExitCode> {
  const config = loadConfig(options.config);
  await using app = await openAgent(config, { purpose: "renew", name: options.name, adopt: options.adopt }, overrides);
  // Side by side, so that several certificates of one server share its reload.
  const passes = await Promise.all(
    app.agents.map(async (agent) => ({ agent, result: await passOnce(agent, { force: options.force }, signal) })),
  );
  let worst: ExitCode = 0;
  for (const { agent, result } of passes) if (finish(agent, result, terminal) !== 0) worst = 1;
  return (await renewSystemTrust(app, terminal)) ? worst : 1;
}

/** What a pass came to, in a line or two. */
function finish(agent: AgentContext, result: PassResult, terminal: Terminal, done = "nothing was due"): ExitCode {
  const { config, journal } = agent;
  const { notServed, retries } = journal.state;
  const leaf = newestLeaf(journal.state);
  if (leaf !== null) {
    const what = result.renewed ? `renewed, serial ${leaf.serial}` : retries.ask.error === null ? done : "NOT RENEWED";
    terminal.out(`${config.name}: ${what}; ${proofOf(agent, leaf)}; until ${new Date(leaf.notAfter).toISOString()}\n`);
  }
  if (!result.failed) return 0;
  const errors = retryKinds.flatMap((work) => {
    const { error } = retries[work];
    return error === null ? [] : [{ ...error, work }];
  });
  // One cause often stops several works: each message once, and the advice after the last of its kind.
  const distinct = errors.filter(({ message }, index) => errors.findIndex((one) => one.message === message) === index);
  for (const [index, { work, code, message }] of distinct.entries()) {
    terminal.error(`${config.name}: failed ${workWords[work]}: ${code}: ${message}\n`);
    const advice = distinct[index + 1]?.code === code ? null : adviceFor(code);
    if (advice !== null) terminal.error(`  do: ${advice}\n`);
  }
  if (notServed !== null && retries.serve.error === null)
    terminal.error(`${config.name}: installed, not served: ${notServed.detail}\n`);
  return 1;
}

/** Of the newest leaf held, not of whatever is on the proxy's disk. */
function proofOf({ config, journal }: AgentContext, leaf: { readonly fingerprint: string }): string {
  const { notServed, served, announced } = journal.state;
  if (notServed !== null) return "INSTALLED, NOT SERVED";
  if (config.beforeSwitch !== null && served !== null && announced?.fingerprint === leaf.fingerprint) {
    const at = new Date(announced.at + config.beforeSwitch.waitMs).toISOString();
    if (served.fingerprint !== leaf.fingerprint) return `announced, the one before stays in use until ${at}`;
  }
  if (served?.fingerprint !== leaf.fingerprint)
    return served === null ? "NOT INSTALLED" : "the one before stays in use";
  return config.probes.length === 0 ? "installed" : "served";
}

export async function statusCommand(
  options: { readonly config: string; readonly json: boolean },
  terminal: Terminal,
  overrides: AgentOverrides = {},
): Promise<ExitCode> {
  const config = loadConfig(options.config);
  const now = (overrides.clock ?? { now: () => Date.now() }).now();
  const status = await readStatus(config, now);
  terminal.out(options.json ? `${JSON.stringify(status)}\n` : formatStatus(status));
  return 0;
}

export async function checkCommand(
  options: { readonly config: string },
  terminal: Terminal,
  overrides: AgentOverrides = {},
): Promise<ExitCode> {
  const config = loadConfig(options.config);
  let failures = 0;
  for await (const { level, what } of runChecks(config, overrides.clock ?? { now: () => Date.now() })) {
    if (level === "fail") failures += 1;
    terminal.out(`${level.padEnd(5)}${what}\n`);
  }
  if (failures > 0) terminal.error(`${failures} of the checks failed\n`);
  return failures > 0 ? 1 : 0;
}

/** The token from a file, from stdin (`-`), from the command line (with a warning) or from the environment. */
export async function readTokenOption(
  options: { readonly tokenFile?: string | undefined; readonly token?: string | undefined },
  environment: string | undefined,
  terminal: Terminal,
): Promise<string | null> {
  if (options.token !== undefined && options.token !== "-") {
    terminal.error("warning: --token is visible to every user of this host in the process list; prefer --token-file\n");
    return options.token.trim();
  }
  const file = options.tokenFile ?? (options.token === "-" ? "-" : undefined);
  if (file === undefined) return environment === undefined || environment === "" ? null : environment.trim();
  if (file === "-") return firstLine(process.stdin);
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    throw new UsageError(`the token file ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** A line, not all there is: who pastes a token ends it with Enter. */
async function firstLine(input: NodeJS.ReadStream): Promise<string> {
  const lines = createInterface({ input });
  try {
    for await (const line of lines) if (line.trim() !== "") return line.trim();
    throw new UsageError("there is no token on stdin");
  } finally {
    lines.close();
    input.destroy();
  }
}

/** An operator who has decided should not have to wait for long. */
const longestPollMs = 60_000;

/** What stands on stderr when a command fails: what, why, what to do. */
export function describeFailure(error: unknown): string {
  const { code, message } = explain(error);
  const isCoded = error instanceof AppError || error instanceof NetworkError;
  const advice = adviceFor(code) ?? adviceForSystem((error as { readonly code?: unknown } | null | undefined)?.code);
  return `newleaf-agent: ${isCoded ? `${code}: ` : ""}${message}${advice === null ? "" : `\n  do: ${advice}`}\n`;
}
