/**
 * The composition root: everything the service is made of, started in order and stopped in reverse. Tests call the same
 * function with port 0.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { systemClock, type Clock } from "@newleaf/shared/clock";
import { writeFileDurably } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import { pino, type Logger } from "pino";
import { createAllowance } from "./authority/allowance.ts";
import { type CheckpointTarget, createCheckpoints } from "./authority/audit/checkpoint.ts";
import { createAuditWatch } from "./authority/audit/watch.ts";
import { systemCaller, type Authority } from "./authority/authority.ts";
import { createConnections } from "./authority/revocation/connections.ts";
import { createAnswerCleanup } from "./authority/idempotency.ts";
import { createFeed } from "./authority/feed.ts";
import { openHerd } from "./authority/herd/herd.ts";
import { createPresence } from "./authority/revocation/presence.ts";
import type { IssuerRegistry } from "./authority/issuers.ts";
import { publishDueCrls } from "./authority/revocation/publish-crl.ts";
import { createRetention } from "./authority/audit/retention.ts";
import { finishRevokedIssuers } from "./authority/revocation/revoke-issuer.ts";
import {
  canIssue,
  isServiceCertificateDue,
  issueServiceCertificate,
  type ServiceCertificate,
} from "./authority/service-certificate.ts";
import { createSightings } from "./authority/sightings.ts";
import { configFile, type ServerConfig } from "./config.ts";
import type { Address } from "./config-tree.ts";
import { openBackups } from "./backup/desk.ts";
import type { Issuer } from "./ca/issuer.ts";
import { createEvents } from "./events.ts";
import { adminApp } from "./http/admin/router.ts";
import { agentsApp } from "./http/agents.ts";
import type { ListenerName } from "./http/context.ts";
import { enrollmentApp } from "./http/enrollment.ts";
import { openListener, type Listener, type ListenerOptions } from "./http/listener.ts";
import { opsApp } from "./http/ops.ts";
import { publicApp } from "./http/public.ts";
import { secureContextSettings } from "./http/tls.ts";
import { backupJob } from "./jobs/backups.ts";
import { startJobs } from "./jobs/schedule.ts";
import { loadSigners } from "./keys/load-signers.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import { checkpointFile } from "./off-box/checkpoint-file.ts";
import { checkpointSyslog } from "./off-box/checkpoint-syslog.ts";
import { lockDatabase } from "./store/sqlite/lock.ts";
import { openSqliteStore } from "./store/sqlite/store.ts";
import type { Store } from "./store/store.ts";
import { version } from "./version.ts";

export interface Overrides {
  readonly clock?: Clock;
  readonly random?: (size: number) => Buffer;
  readonly log?: Logger;
}

export interface RunningServer extends AsyncDisposable {
  readonly authority: Authority;
  /** Real addresses; null where a listener is off. */
  readonly listeners: Readonly<Record<ListenerName, Address | null>>;
}

/**
 * Starts the service on an initialised data directory.
 * @throws AppError or Error that says what is missing and what to do
 */
export async function startServer(config: ServerConfig, overrides: Overrides = {}): Promise<RunningServer> {
  await using stack = new AsyncDisposableStack();
  const log = overrides.log ?? pino({ level: config.log.level, base: null, timestamp: pino.stdTimeFunctions.isoTime });
  const metrics = createMetrics(version);
  const authority = await openAuthority(stack, config, { ...overrides, log }, metrics);
  const { events } = authority;
  const checkpoints = createCheckpoints(authority, checkpointTargets(config));
  // At the end, when no listener takes anything any more and the store is still open.
  stack.defer(() => checkpoints.stop());
  // Before anything is added to the log.
  await checkpoints.compare();
  const system = systemCaller("start");
  await tellOfRestore(authority);
  await publishDueCrls(authority, system);

  let certificate = canIssue(authority) ? await issueServiceCertificate(authority) : null;
  if (certificate === null)
    log.error("every issuing CA is revoked: only CRLs and issuer certificates are served, until there is a new one");
  const stopping = new AbortController();
  const listeners = await openListeners(stack, authority, metrics, certificate, stopping.signal);
  const renewOwn = async (): Promise<void> => {
    if (certificate === null || !isServiceCertificateDue(authority, certificate)) return;
    certificate = await issueServiceCertificate(authority);
    for (const listener of listeners) listener.useCertificate(settingsFor(authority, certificate, listener.name));
  };
  // Signed by the issuing CA.
  if (certificate !== null) await checkpoints.write();
  const watch = createAuditWatch(authority);
  const retention = createRetention(authority);
  const jobs = [
    { name: "publish CRLs", run: () => publishDueCrls(authority, systemCaller("schedule")) },
    { name: "finish revoking issuers", run: () => finishRevokedIssuers(authority, systemCaller("schedule")) },
    { name: "renew the service's certificate", run: renewOwn },
    { name: "audit checkpoints", run: async () => (canIssue(authority) ? checkpoints.run() : undefined) },
    { name: "verify the audit log", run: () => watch.run() },
    { name: "retention", run: () => retention.run() },
    { name: "forget kept answers", run: createAnswerCleanup(authority) },
  ];
  stack.use(startJobs(jobs, events));
  // Apart from the others: copying a large database must not keep a CRL waiting.
  stack.use(startJobs([backupJob(authority)], events));
  stack.defer(() => stopping.abort());

  const addresses = addressesOf(listeners);
  await announce(stack, config, log, addresses);
  const running = stack.move();
  return { authority, listeners: addresses, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

/**
 * The use cases' ground without listeners or jobs: lock, store, issuers. `serve` stands on it, and the offline commands that issue.
 * What has to be closed is left on the stack.
 * @throws AppError conflict (another process has the data directory), issuer-unavailable
 */
export async function openAuthority(
  stack: AsyncDisposableStack,
  config: ServerConfig,
  overrides: Overrides = {},
  metrics: Metrics = createMetrics(version),
): Promise<Authority> {
  // A command tells people itself what it did.
  const events = createEvents(overrides.log ?? pino({ level: "silent" }), metrics);
  const clock = overrides.clock ?? systemClock;

  const database = join(config.dataDir, "newleaf.db");
  stack.use(await lockDatabase(database));
  const store = stack.use(
    await openSqliteStore({
      path: database,
      onCommit: ({ seconds }) => events.committed(seconds),
      journal: config.journal,
      onJournal: events.journal,
    }),
  );
  const feed = createFeed();
  const issuers = await loadIssuers(store, config);
  const backups = await openBackups({
    store,
    config,
    clock,
    version,
    signer: () => signerOf(issuers),
    issuerIds: () => issuers.rows.map(({ id }) => id),
  });
  events.backupStands(backups.lastSuccessAt() ?? issuers.bundle.createdAt);
  return {
    config,
    store,
    clock,
    random: overrides.random ?? randomBytes,
    issuers,
    connections: createConnections(),
    presence: createPresence(store, feed, clock),
    feed,
    events,
    sightings: createSightings(clock),
    herd: await openHerd(store, clock),
    issuances: createAllowance(clock),
    backups,
  };
}

/** Who signs a backup's manifest. */
function signerOf({ rows, signers }: IssuerRegistry): Issuer | null {
  const active = rows.find((row) => row.kind === "intermediate" && row.state === "active");
  return (active === undefined ? undefined : signers.get(active.id)) ?? null;
}

/** Says it once: at the first start after a restore no CRL is as new as that. */
async function tellOfRestore({ store, issuers, events }: Authority): Promise<void> {
  const restore = await store.latestRestore();
  if (restore !== null && [...issuers.crls.values()].every((crl) => crl.thisUpdate < restore.at))
    events.restored(restore);
}

/** Where checkpoints of the audit log go beside the store and the service's own log. */
function checkpointTargets({ audit }: ServerConfig): readonly CheckpointTarget[] {
  const { file, syslog } = audit.checkpoints;
  return [...(file === null ? [] : [checkpointFile(file)]), ...(syslog === null ? [] : [checkpointSyslog(syslog)])];
}

async function loadIssuers(store: Store, config: ServerConfig): Promise<IssuerRegistry> {
  const bundle = await store.currentBundle();
  const rows = await store.listIssuers();
  if (bundle === null || rows.length === 0) {
    throw new AppError(
      "issuer-unavailable",
      `${config.dataDir} has no CA yet; make one with \`newleaf init --data ${config.dataDir}\``,
    );
  }
  const crls: IssuerRegistry["crls"] = new Map();
  for (const row of rows) {
    const crl = await store.latestCrl(row.id);
    if (crl !== null) crls.set(row.id, crl);
  }
  return { rows, bundle, crls, signers: loadSigners(rows, config.dataDir) };
}

const withClientCertificates: ReadonlySet<ListenerName> = new Set(["agents", "admin"]);

function settingsFor(authority: Authority, certificate: ServiceCertificate, name: ListenerName) {
  return secureContextSettings(authority, certificate, { clientCertificates: withClientCertificates.has(name) });
}

async function openListeners(
  stack: AsyncDisposableStack,
  authority: Authority,
  metrics: Metrics,
  certificate: ServiceCertificate | null,
  stopping: AbortSignal,
): Promise<readonly Listener[]> {
  const { listen } = authority.config;
  const apps: readonly (readonly [ListenerName, ListenerOptions["app"]])[] = [
    ["public", publicApp(authority)],
    ["enrollment", enrollmentApp(authority)],
    ["agents", agentsApp(authority, stopping)],
    ["admin", adminApp(authority)],
    ["ops", opsApp(authority, metrics)],
  ];
  const open: Listener[] = [];
  for (const [name, app] of apps) {
    const address = listen[name];
    if (address === null) continue;
    const isTls = name !== "public" && name !== "ops";
    if (isTls && certificate === null) continue;
    const tls =
      !isTls || certificate === null
        ? {}
        : {
            tls: {
              settings: settingsFor(authority, certificate, name),
              clientCertificates: withClientCertificates.has(name),
              connections: authority.connections,
              ...(name === "agents" ? { crowd: authority.herd.crowd } : {}),
            },
          };
    open.push(stack.use(await openListener({ name, address, app, events: authority.events, ...tls })));
  }
  return open;
}

function addressesOf(listeners: readonly Listener[]): Record<ListenerName, Address | null> {
  const addresses: Record<ListenerName, Address | null> = {
    agents: null,
    enrollment: null,
    admin: null,
    public: null,
    ops: null,
  };
  for (const { name, address } of listeners) addresses[name] = address;
  return addresses;
}

/** run.json tells scripts and the command line where to find us; it goes when we go. */
async function announce(
  stack: AsyncDisposableStack,
  config: ServerConfig,
  log: Logger,
  addresses: Readonly<Record<ListenerName, Address | null>>,
): Promise<void> {
  const spelled = Object.fromEntries(
    Object.entries(addresses).map(([name, address]) => [name, address === null ? null : spell(address)]),
  );
  const file = join(config.dataDir, "run.json");
  // Version and configuration let `newleaf doctor` tell whether what runs is what is on disk.
  const configuration = createHash("sha256")
    .update(await readFile(join(config.dataDir, configFile)))
    .digest("hex");
  const run = { pid: process.pid, listeners: spelled, version, configuration };
  await writeFileDurably(file, `${JSON.stringify(run, null, 2)}\n`, { mode: 0o600 });
  stack.defer(() => rm(file, { force: true }));
  for (const name of ["admin", "ops"] as const) {
    const address = addresses[name];
    if (address !== null && !isLoopback(address.host)) {
      log.warn(
        { listener: name, address: spell(address) },
        "this listener is reachable from other hosts; keep it on 127.0.0.1 unless a firewall guards it",
      );
    }
  }
  log.info({ listeners: spelled, version, data: config.dataDir }, "ready");
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

function spell({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
