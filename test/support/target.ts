/**
 * Proves one kind of server end to end: real service, real agent, the real server, traffic that never pauses. Five renewals with
 * new keys; then an operator's hand breaks the set on disk between the switch and the reload; then the server is stopped and
 * started again from what is on disk. What was measured is a row of the table in docs/gateways/README.md.
 */
import assert from "node:assert/strict";
import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentContext } from "../../agent-client/context.ts";
import { resolveOwner } from "../../agent-client/install/owner.ts";
import type { StartTls } from "../../agent-client/probe/probe.ts";
import { runInBackground, type TestHost, testHost, until } from "./agent.ts";
import { addGateway, installFirst } from "./first-install.ts";
import { credentials, enrolled, use } from "./agent-client.ts";
import { type Backend, startBackend } from "./backend.ts";
import { type Hand, operatorsHand } from "./operators-hand.ts";
import { freePort } from "./processes.ts";
import { startService, type TestService } from "./service.ts";
import { dialogues, isAdmitted, presented, targetName, watchHandshakes } from "./target-handshakes.ts";
import { startTraffic, type TrafficReport } from "./traffic.ts";

export { targetName } from "./target-handshakes.ts";

/** Every file a server of these tests may want; `combined.pem` holds the key too. */
const files = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem", "combined.pem"];
const renewals = 5;

/** Where a server is to run, and with what. */
export interface Place {
  /** For configuration, pid file and logs; others can pass it. */
  readonly dir: string;
  /** The agent's `current`: the path of one of its files. */
  file(name: "key.pem" | "fullchain.pem" | "ca.pem" | "crl.pem" | "combined.pem"): string;
  /** To listen on, on 127.0.0.1; the same when the server is started again. */
  readonly port: number;
  /** An HTTP server with WebSockets to pass requests to. */
  readonly backendPort: number;
}

export interface TargetServer {
  /** Ends it, and whoever was started in its place. */
  stop(): Promise<void>;
  /** Its own words, for failures. */
  log(): string;
}

export interface TargetSpec {
  /** As the table has it: `Apache httpd`. */
  readonly target: string;
  /** How it is told: `SIGUSR1 (graceful)`. */
  readonly how: string;
  readonly version: string;
  /** The uid that opens the files, when it is not root. */
  readonly owner?: string | number;
  /** What it speaks behind TLS. */
  readonly traffic: "http" | "handshake";
  /** False for servers that are run without client certificates. */
  readonly clientCertificates: boolean;
  /** Whether it checks client certificates against crl.pem; left out: not looked at. */
  readonly readsCrl?: boolean;
  readonly startTls?: StartTls;
  /** `keeps-old`: new handshakes get the old leaf throughout. `breaks`: they fail until the agent has undone it. */
  readonly onBadSet: "keeps-old" | "breaks";
  /** What agent.yml says of further files, from the enrollment on; `files` among them replaces the usual ones. @param dir the test's own */
  outputs?(dir: string): Readonly<Record<string, unknown>>;
  /** Starts it from the files on disk; called again for the start from disk. */
  start(place: Place): Promise<TargetServer>;
  /** What agent.yml says of the certificate beside files and probe: `reload`, `start`, `check`, further `files` … */
  settings(place: Place): Readonly<Record<string, unknown>>;
  /** Looks at one more thing while the server is up and the agent runs. */
  also?(story: TargetStory): Promise<void>;
}

export interface TargetStory {
  readonly service: TestService;
  readonly host: TestHost;
  readonly agent: AgentContext;
  readonly place: Place;
  readonly hand: Hand;
  /** Renews now and waits until the new leaf is in force and presented. @returns seconds from `renewed` to `served` */
  renew(): Promise<number>;
}

export interface TargetRow {
  readonly target: string;
  readonly how: string;
  readonly version: string;
  readonly seconds: readonly number[];
  readonly newConnections: { readonly made: number; readonly failed: number };
  /** Null for servers that do not speak HTTP. */
  readonly kept: { readonly requests: number; readonly resets: number } | null;
  readonly webSockets: { readonly opened: number; readonly cut: number } | null;
  /** Null where it was not looked at. */
  readonly readsCrl: boolean | null;
  /** From the revocation of a client until the server refused it; null where it does not. */
  readonly revokedRefusedSeconds: number | null;
  /** How long fresh handshakes failed because of the bad set, at the longest. */
  readonly badSetDownSeconds: number;
}

/** Does all of it, asserts what must hold for every server, and returns what was measured. */
export async function proveTarget(spec: TargetSpec): Promise<TargetRow> {
  await using service = await startService();
  // Servers that are not root read their files in there.
  chmodSync(service.dir, 0o711);
  const host = testHost(service, join(service.dir, "host"));
  chmodSync(host.dir, 0o711);
  const token = await addGateway(service, targetName);
  await installFirst(host, token, { files, ...owned(spec), ...spec.outputs?.(service.dir) });
  const backend = await startBackend();
  const place = await placeOf(spec, service, host, backend);
  let server: TargetServer | null = await spec.start(place);
  try {
    const outputs = { files, ...owned(spec), ...spec.outputs?.(service.dir) };
    host.configure({ ...outputs, ...spec.settings(place), probe: probeOf(spec, place) });
    const hand = operatorsHand(host);
    await using app = await host.open({ checkpoint: hand.checkpoint });
    await using running = runInBackground(app);
    const [agent] = app.agents;
    assert.ok(agent);
    const story: TargetStory = { service, host, agent, place, hand, renew: () => renewOnce(spec, host, agent, place) };
    await until("the first leaf is in force", () => agent.journal.state.current?.generation === 1 && isQuiet(agent));

    const { seconds, report } = await renewUnderTraffic(spec, story);
    const revokedRefusedSeconds = spec.readsCrl === undefined ? null : await revokes(spec, story);
    await spec.also?.(story);
    const badSetDownSeconds = await survivesBadSet(spec, story);
    await running[Symbol.asyncDispose]();

    const onDisk = host.installed();
    await server.stop();
    server = null;
    server = await spec.start(place);
    assert.equal(await presented(spec, place), onDisk, "started again from the files on disk");
    const row = rowOf(spec, report, { seconds, revokedRefusedSeconds, badSetDownSeconds });
    keepRow(row);
    return row;
  } catch (error) {
    (error as Error).message +=
      `\n--- agent\n${host.lines.slice(-40).join("")}--- server\n${server?.log().slice(-3000)}`;
    throw error;
  } finally {
    await server?.stop();
    await backend.stop();
  }
}

async function placeOf(spec: TargetSpec, service: TestService, host: TestHost, backend: Backend): Promise<Place> {
  const dir = join(service.dir, "server");
  mkdirSync(dir);
  chmodSync(dir, 0o755);
  // Like its directory in /run: the pid file is often written after root was dropped.
  const { uid, gid } = await resolveOwner({ owner: spec.owner ?? null, group: null });
  if (spec.owner !== undefined) chownSync(dir, uid, gid);
  return { dir, file: (name) => join(host.current, name), port: await freePort(), backendPort: backend.port };
}

const owned = (spec: TargetSpec) => (spec.owner === undefined ? {} : { owner: spec.owner });

function probeOf(spec: TargetSpec, { port }: Place) {
  const probe = { connect: `127.0.0.1:${port}`, serverName: targetName, timeout: "3s" };
  return spec.startTls === undefined ? probe : { ...probe, startTls: spec.startTls };
}

async function renewUnderTraffic(
  spec: TargetSpec,
  story: TargetStory,
): Promise<{ seconds: readonly number[]; report: TrafficReport }> {
  const { service, host, place } = story;
  const client = await enrolled(service, "client-1");
  await use(service, client);
  const first = host.installed();
  const full = process.env["NEWLEAF_FULL_TRAFFIC"] !== undefined;
  const http = { kept: full ? 150 : 10, webSockets: 2 };
  const traffic =
    spec.startTls === undefined
      ? await startTraffic({
          port: place.port,
          serverName: targetName,
          ca: service.roots,
          kind: spec.traffic,
          ...(spec.clientCertificates ? { client: credentials(client) } : {}),
          newLoops: full ? 4 : 2,
          ...(spec.traffic === "http" ? http : {}),
        })
      : dialogues(spec, place);
  const seconds: number[] = [];
  const leaves = [first];
  try {
    for (let round = 0; round < renewals; round += 1) {
      // A server is told at most once a second.
      await sleep(full ? 1500 : 300);
      seconds.push(await story.renew());
      leaves.push(host.installed());
    }
    await sleep(300);
  } finally {
    await traffic.stop();
  }
  const report = await traffic.stop();
  assert.equal(new Set(leaves).size, renewals + 1, "each renewal has a leaf of its own");
  for (const { fingerprint } of report.presented)
    assert.ok(leaves.includes(fingerprint), "clients saw these leaves only");
  assert.ok(report.newConnections.made > 20, `${report.newConnections.made} new connections`);
  return { seconds, report };
}

async function renewOnce(spec: TargetSpec, host: TestHost, agent: AgentContext, place: Place): Promise<number> {
  const { generation = 0 } = agent.journal.state.current ?? {};
  const from = host.lines.length;
  agent.view.forced = true;
  agent.wake.now();
  await until(
    `generation ${generation + 1} is in force`,
    () => agent.journal.state.current?.generation === generation + 1,
  );
  assert.equal(await presented(spec, place), agent.journal.state.current?.fingerprint, "and presented");
  assert.equal(host.installed(), agent.journal.state.current?.fingerprint, "and on disk");
  const at = (event: string): number => {
    const line = host.lines.slice(from).find((text) => text.split(" ")[2] === event);
    assert.ok(line, `the log tells of ${event}`);
    return Date.parse(line.split(" ")[0] ?? "");
  };
  return (at("served") - at("renewed")) / 1000;
}

/** A client is revoked; the server that reads CRLs refuses it, without anybody's hand. @returns after how many seconds */
async function revokes(spec: TargetSpec, { service, host, place }: TargetStory): Promise<number | null> {
  const [good, bad] = [await enrolled(service, "client-2"), await enrolled(service, "client-3")];
  await until(
    "both clients are let in",
    async () => (await isAdmitted(spec, service, place, bad)) && isAdmitted(spec, service, place, good),
  );
  const revokedAt = performance.now();
  const lines = host.lines.length;
  await service.admin("POST", "/v1/revocations", { serial: bad.answer.serial, reason: "keyCompromise" });
  if (spec.readsCrl === false) {
    await until("the agent has the CRL", () => host.lines.slice(lines).some((line) => line.includes(" crl-accepted ")));
    await sleep(2000);
    assert.ok(await isAdmitted(spec, service, place, bad), "a server that reads no CRL lets a revoked client in");
    return null;
  }
  // Right after a reload the old workers may still take one in.
  let refusals = 0;
  let refusedAt = 0;
  await until("the revoked client is refused, steadily", async () => {
    if (await isAdmitted(spec, service, place, bad)) refusals = 0;
    else if ((refusals += 1) === 1) refusedAt = performance.now();
    return refusals >= 8 && performance.now() - refusedAt > 500;
  });
  assert.ok(await isAdmitted(spec, service, place, good), "the other client is still let in");
  return (refusedAt - revokedAt) / 1000;
}

/** A set that is broken before the server hears of it is noticed, and a good one takes its place. */
export async function noticesInTime({ hand, agent, renew }: TargetStory): Promise<void> {
  hand.strike("link-switched");
  const renewing = renew();
  const { journal } = agent;
  await until("the agent has noticed", () => hand.broke && journal.state.retries.install.error !== null);
  assert.match(journal.state.retries.install.error?.message ?? "", /not what was written: the key in key\.pem/);
  // It would wait for a minute or so, for whoever else is at the files.
  let isOver = false;
  const done = renewing.finally(() => (isOver = true));
  done.catch(() => undefined);
  while (!isOver) {
    const { retries } = journal.state;
    if (retries.install.notBefore > Date.now())
      await journal.update({ retries: { ...retries, install: { ...retries.install, notBefore: 0 } } });
    agent.wake.now();
    await sleep(200);
  }
  await done;
}

/** The agent undoes it, whether the server kept the old leaf or broke. @returns seconds without a good handshake at a stretch */
async function survivesBadSet(spec: TargetSpec, { host, agent, place, hand }: TargetStory): Promise<number> {
  const before = host.installed();
  await using watch = watchHandshakes(spec, place);
  hand.strike("reloaded");
  agent.view.forced = true;
  agent.wake.now();
  await until("the set on disk was broken", () => hand.broke);
  await until(
    "a good set is on disk and served again",
    async () => isPair(host) && isQuiet(agent) && (await presented(spec, place)) === host.installed(),
    60_000,
  );
  const { seen, downSeconds } = await watch.stop();
  const good = [before, host.installed()];
  const others = seen.filter((leaf) => !good.includes(leaf));
  // A server that looks by itself may have taken the new set before the hand was at it.
  const allowed = spec.settings(place)["reload"] === "watch" ? 1 : 0;
  assert.ok(others.length <= allowed, `somebody saw another leaf: ${others.join(", ")}`);
  if (spec.onBadSet === "keeps-old") assert.ok(downSeconds < 0.5, `${downSeconds} s without a handshake`);
  else assert.ok(downSeconds > 0, "the bad set broke nothing: then the target keeps the old one");
  return downSeconds;
}

function isQuiet({ journal }: AgentContext): boolean {
  const { notServed, served, step } = journal.state;
  return notServed === null && served !== null && step === "idle";
}

function isPair(host: TestHost): boolean {
  try {
    host.installed();
    return true;
  } catch {
    return false;
  }
}

function rowOf(
  spec: TargetSpec,
  report: TrafficReport,
  measured: Pick<TargetRow, "seconds" | "revokedRefusedSeconds" | "badSetDownSeconds">,
): TargetRow {
  const { target, how, version } = spec;
  const { newConnections, kept, webSockets } = report;
  const isHttp = spec.traffic === "http";
  return {
    target,
    how,
    version,
    ...measured,
    readsCrl: spec.readsCrl ?? null,
    // Visitors that keep a connection begin with a new one, and again after each reset.
    newConnections: { made: newConnections.made, failed: newConnections.failed.length + kept.failed.length },
    kept: isHttp ? { requests: kept.requests, resets: kept.resets } : null,
    webSockets: isHttp ? webSockets : null,
  };
}

/** For the table: one JSON file each in the directory that NEWLEAF_TARGET_ROWS names. */
function keepRow(row: TargetRow): void {
  const directory = process.env["NEWLEAF_TARGET_ROWS"];
  if (directory === undefined) return;
  if (!existsSync(directory)) mkdirSync(directory, { recursive: true });
  const name = `${row.target} ${row.how}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  writeFileSync(join(directory, `${name}.json`), `${JSON.stringify(row)}\n`);
}
