/** THE composition root of the agent: what is opened, in which order, and that it is closed in the reverse. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "@newleaf/shared/clock";
import { makeDirectory } from "@newleaf/shared/durable-file";
import { runAgent } from "./agent.ts";
import type { AgentConfig, CertificateConfig } from "./config/config.ts";
import { type AgentContext, newView } from "./context.ts";
import { openCredentials } from "./credentials.ts";
import { followChanges } from "./feed.ts";
import { finishCopies } from "./install/copies.ts";
import { type JournalFile, openJournal, readJournal } from "./journal.ts";
import { takeLock } from "./lock.ts";
import { createLog, type Log, logWith } from "./log.ts";
import { type CertificateMetrics, metricsOf, renderMetrics, serveMetrics } from "./metrics.ts";
import { createReloadDesk } from "./reload/desk.ts";
import { createServiceClient, type ServiceClient } from "./service-client.ts";
import { openSystemTrust, type SystemTrustKeeper } from "./trust/system-trust.ts";
import { openTextfile, type Textfile } from "./textfile.ts";
import { TrustStore } from "./trust/trust-store.ts";
import { createWake } from "./wake.ts";

/** What tests replace: time, chance, where the log goes, and a place to stop at. */
export interface AgentOverrides {
  readonly clock?: Clock;
  readonly random?: () => number;
  readonly log?: Log;
  readonly checkpoint?: (name: string) => void;
  /** How long an answer of the service may take. */
  readonly serviceTimeoutMs?: number;
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
  /** Null when agent.yml does not ask for it. */
  readonly systemTrust: SystemTrustKeeper | null;
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
  const { clock = systemClock, serviceTimeoutMs: timeoutMs } = overrides;
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
  const client = createServiceClient({ ...config, roots: () => trust.anchors, clock, timeoutMs });
  const agents: AgentContext[] = [];
  const collect = (): readonly CertificateMetrics[] =>
    agents.map(({ config: certificate, journal, view }) => metricsOf(certificate, journal.state, trust.trust, view));
  const textfile =
    config.textfile === null
      ? null
      : stack.use(
          openTextfile({
            path: config.textfile,
            render: async () => renderMetrics([...collect(), ...(await collectClosed(config, chosen, trust))]),
            log,
          }),
        );
  const random = overrides.random ?? Math.random;
  const checkpoint = overrides.checkpoint ?? ((): void => {});
  const reload = createReloadDesk({ strategies: chosen.map((certificate) => certificate.reload) });
  const { systemTrust: settings, state } = config;
  const systemTrust = settings === null ? null : await openSystemTrust({ settings, state, trust, clock, random, log });
  for (const certificate of chosen) {
    const directory = join(config.state, certificate.name);
    const view = newView();
    await endCopies(certificate, log);
    agents.push({
      config: certificate,
      journal: watched(await openJournal(directory), textfile),
      credentials: await openCredentials(directory),
      trust,
      client,
      clock,
      random,
      log: logWith(log, { certificate: certificate.name }),
      count: (outcome) => (view.attempts[outcome] = (view.attempts[outcome] ?? 0) + 1),
      reload,
      adopt: options.adopt ?? false,
      checkpoint,
      view,
      wake: createWake(),
    });
  }
  const opened = stack.move();
  return {
    agents,
    trust,
    client,
    log,
    systemTrust,
    run: (signal) => runAll(config, agents, log, { collect, textfile, systemTrust }, signal),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** What `run` keeps besides the certificates. */
interface Surroundings {
  readonly collect: () => readonly CertificateMetrics[];
  readonly textfile: Textfile | null;
  readonly systemTrust: SystemTrustKeeper | null;
}

async function runAll(
  config: AgentConfig,
  agents: readonly AgentContext[],
  log: Log,
  { collect, textfile, systemTrust }: Surroundings,
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
  const work = agents.flatMap((agent) => [runAgent(agent, signal), followChanges(agent, signal)]);
  await Promise.all([...work, textfile?.keepFresh(signal), systemTrust?.run(signal)]);
  log.info("stopped");
}

/** What a crash left half copied is made whole before anything else: a server may start at any moment. */
async function endCopies({ name, target }: CertificateConfig, log: Log): Promise<void> {
  try {
    if (await finishCopies(target)) log.warn("copies-finished", { certificate: name });
  } catch (error) {
    // The loop finds the same, and says it with a time to try again.
    log.error("copies-unfinished", { certificate: name, why: (error as Error).message });
  }
}

/** Whatever changes for a certificate goes through its journal. */
function watched(journal: JournalFile, textfile: Textfile | null): JournalFile {
  if (textfile === null) return journal;
  return {
    get state() {
      return journal.state;
    },
    async update(change) {
      await journal.update(change);
      textfile.changed();
    },
  };
}

/** One pass over one certificate must not take the others out of the file. */
async function collectClosed(
  config: AgentConfig,
  open: readonly CertificateConfig[],
  { trust }: TrustStore,
): Promise<readonly CertificateMetrics[]> {
  const closed = config.certificates.filter((certificate) => !open.includes(certificate));
  return Promise.all(
    closed.map(async (certificate) =>
      metricsOf(certificate, await readJournal(join(config.state, certificate.name)), trust, newView()),
    ),
  );
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
