/** THE composition root of the agent: what is opened, in which order, and that it is closed in the reverse. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "@newleaf/shared/clock";
import { makeDirectory } from "@newleaf/shared/durable-file";
import { runAgent } from "./agent.ts";
import type { AgentConfig, CertificateConfig } from "./config.ts";
import { type AgentContext, newView } from "./context.ts";
import { openCredentials } from "./credentials.ts";
import { followChanges } from "./feed.ts";
import { newestLeaf, openJournal } from "./journal.ts";
import { takeLock } from "./lock.ts";
import { createLog, type Log, logWith } from "./log.ts";
import { type CertificateMetrics, type Outcome, serveMetrics } from "./metrics.ts";
import { createReloadDesk } from "./reload/desk.ts";
import { createServiceClient, type ServiceClient } from "./service-client.ts";
import { TrustStore } from "./trust-store.ts";
import { createWake } from "./wake.ts";

/** What tests replace: time, chance, where the log goes, and a place to stop at. */
export interface AgentOverrides {
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly log?: Log;
  readonly checkpoint?: (name: string) => void;
}

export interface OpenOptions {
  /** What this process does, for whoever finds the lock taken. */
  readonly purpose: string;
  /** Only the certificate of this name; null: all. */
  readonly name: string | null;
  readonly adopt?: boolean;
}

export interface AgentApp extends AsyncDisposable {
  readonly agents: readonly AgentContext[];
  readonly trust: TrustStore;
  readonly client: ServiceClient;
  readonly log: Log;
  /** Keeps all certificates, and serves the metrics, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

/** Wrong usage that only shows once the configuration is known. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Something about the state directory or the command's target is not as it must be. */
export class SetupError extends Error {
  override readonly name = "SetupError";
}

/**
 * Opens state and trust, and takes the lock.
 * @throws LockedError, SetupError, UsageError, BundleError, the system error
 */
export async function openAgent(
  config: AgentConfig,
  options: OpenOptions,
  overrides: AgentOverrides = {},
): Promise<AgentApp> {
  const clock = overrides.clock ?? systemClock;
  const log = overrides.log ?? createLog((line) => void process.stderr.write(line), clock.now);
  const chosen = chooseCertificates(config, options.name);
  await using stack = new AsyncDisposableStack();
  await openState(config.state);
  stack.use(await takeLock(config.state, `newleaf-agent ${options.purpose} (pid ${process.pid})`));
  const trust: TrustStore = await TrustStore.open({
    state: config.state,
    rootsFile: config.roots,
    rootFingerprint: config.rootFingerprint,
    client: () => client,
    clock,
    log,
  });
  const client = createServiceClient({ ...config, roots: () => trust.anchors, clock });
  const counts = new Map<string, Partial<Record<Outcome, number>>>();
  const reload = createReloadDesk({ strategies: chosen.map((certificate) => certificate.reload) });
  const agents: AgentContext[] = [];
  for (const certificate of chosen) {
    const directory = join(config.state, certificate.name);
    const tally: Partial<Record<Outcome, number>> = {};
    counts.set(certificate.name, tally);
    agents.push({
      config: certificate,
      journal: await openJournal(directory),
      credentials: await openCredentials(directory),
      trust,
      client,
      clock,
      random: overrides.random ?? Math.random,
      log: logWith(log, { certificate: certificate.name }),
      count: (outcome) => (tally[outcome] = (tally[outcome] ?? 0) + 1),
      reload,
      adopt: options.adopt ?? false,
      checkpoint: overrides.checkpoint ?? (() => {}),
      view: newView(),
      wake: createWake(),
    });
  }
  const collect = (): readonly CertificateMetrics[] =>
    agents.map((agent) => metricsOf(agent, counts.get(agent.config.name) ?? {}));
  const opened = stack.move();
  return {
    agents,
    trust,
    client,
    log,
    run: (signal) => runAll(config, agents, log, collect, signal),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function runAll(
  config: AgentConfig,
  agents: readonly AgentContext[],
  log: Log,
  collect: () => readonly CertificateMetrics[],
  signal: AbortSignal,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  if (config.metrics !== null) {
    const { host } = config.metrics;
    try {
      const server = stack.use(await serveMetrics(config.metrics, collect));
      log.info("metrics", { url: `http://${host}:${server.port}/metrics` });
    } catch (error) {
      // A certificate that renews unseen is better than one that expires because a port was taken.
      log.error("no-metrics", { why: (error as Error).message });
    }
  }
  log.info("ready", { certificates: agents.length, server: config.server, pid: process.pid });
  await Promise.all(agents.flatMap((agent) => [runAgent(agent, signal), followChanges(agent, signal)]));
  log.info("stopped");
}

function chooseCertificates(config: AgentConfig, name: string | null): readonly CertificateConfig[] {
  if (name === null) return config.certificates;
  const chosen = config.certificates.filter((certificate) => certificate.name === name);
  if (chosen.length > 0) return chosen;
  const names = config.certificates.map((certificate) => certificate.name).join(", ");
  throw new UsageError(`the configuration has no certificate "${name}"; it has ${names}`);
}

/** Keys are in there: nobody else may look. */
async function openState(path: string): Promise<void> {
  await makeDirectory(path, 0o700);
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  throw new SetupError(`others can read the state directory ${path}, where the keys are; run: chmod 700 ${path}`);
}

function metricsOf(
  { config, journal, trust }: AgentContext,
  attempts: CertificateMetrics["attempts"],
): CertificateMetrics {
  const { served, notServed, told } = journal.state;
  const newest = newestLeaf(journal.state);
  const ends = [...trust.trust.crls.values()].map((crl) => crl.nextUpdate);
  return {
    name: config.name,
    notAfter: newest?.notAfter ?? null,
    servedMatches: notServed === null && newest !== null && served?.fingerprint === newest.fingerprint,
    reloadPending: notServed !== null || (newest !== null && told?.fingerprint !== newest.fingerprint),
    crlNextUpdate: ends.length === 0 || !config.target.files.includes("crl.pem") ? null : Math.min(...ends),
    attempts,
  };
}
