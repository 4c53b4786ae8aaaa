/**
 * Renewals under traffic with real service, agent and server: what visitors noticed of them, and what they must not notice.
 */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { runInBackground, testHost, type TestHost, until } from "./agent.ts";
import { addGateway, installFirst } from "./first-install.ts";
import { credentials, settled } from "./agent-client.ts";
import { startBackend } from "./backend.ts";
import { startService, type TestService } from "./service.ts";
import { startTraffic, type TrafficOptions, type TrafficReport } from "./traffic.ts";

export const gatewayName = "gateway.claw.internal";
const files = ["key.pem", "fullchain.pem", "combined.pem", "ca.pem", "crl.pem"];
/** No server may be slower to show what was installed. */
const longestMs = 2000;

export interface GatewayServer {
  readonly port: number;
  /** `reload` of agent.yml. */
  readonly reload: unknown;
  stop(): Promise<void>;
}

/** Starts the server from the agent's files, in front of the backend, `dir` being its own. */
export type StartGateway = (place: {
  readonly dir: string;
  readonly current: string;
  readonly backendPort: number;
}) => Promise<GatewayServer>;

export interface Turn {
  readonly fingerprint: string;
  /** From the switch on disk to the first visitor who saw the new leaf. */
  readonly seenAfterMs: number;
  /** From the certificate's arrival to the proof that it is served. */
  readonly servedAfterMs: number;
}

export interface Figures {
  readonly turns: readonly Turn[];
  readonly report: TrafficReport;
}

/** A service, a host whose gateway-1 is enrolled, and the server that serves its files. */
export async function withGateway(
  start: StartGateway,
  story: (scene: { service: TestService; host: TestHost; server: GatewayServer }) => Promise<void>,
): Promise<void> {
  await using service = await startService();
  const token = await addGateway(service, gatewayName);
  const host = testHost(service, join(service.dir, "host"));
  await installFirst(host, token, { files });
  await using backend = await startBackend();
  const dir = join(service.dir, "server");
  mkdirSync(dir);
  const server = await start({ dir, current: host.current, backendPort: backend.port });
  try {
    host.configure({
      files,
      reload: server.reload,
      probe: { connect: `127.0.0.1:${server.port}`, serverName: gatewayName, timeout: "5s" },
    });
    await story({ service, host, server });
  } finally {
    await server.stop();
  }
}

/**
 * So many renewals with new keys, at least a second apart, with visitors all the while. Asserts what holds for every server: no
 * new connection failed, no answer was wrong, every leaf was seen in time, none after its successor was proven, and the
 * WebSockets are open at the end.
 */
export async function renewUnderTraffic(
  start: StartGateway,
  renewals: number,
  visitors: Partial<TrafficOptions> = {},
): Promise<Figures> {
  let figures: Figures | undefined;
  await withGateway(start, async ({ service, host, server }) => {
    const client = credentials(await settled(service, "client-1"));
    const first = host.installed();
    await using app = await host.open();
    await using running = runInBackground(app);
    const [agent] = app.agents;
    assert.ok(agent);
    const inForce = (generation: number): boolean => {
      const { current, served, step } = agent.journal.state;
      return current?.generation === generation && served?.fingerprint === current.fingerprint && step === "idle";
    };
    await until("the first leaf is in force", () => inForce(1));
    const to = { port: server.port, serverName: gatewayName, ca: service.roots, client };
    await using traffic = await startTraffic({ ...to, kind: "http", ...visitors });
    for (let renewal = 1; renewal <= renewals; renewal += 1) {
      await sleep(1000);
      agent.view.forced = true;
      agent.wake.now();
      await until(`renewal ${renewal} is served`, () => inForce(renewal + 1)).catch((error: Error) => {
        throw new Error(`${error.message}\n${host.lines.slice(-30).join("")}`);
      });
    }
    await sleep(1000);
    const report = await traffic.stop();
    await running[Symbol.asyncDispose]();
    figures = judge(report, host, first, renewals);
  });
  assert.ok(figures);
  return figures;
}

function judge(report: TrafficReport, host: TestHost, first: string, renewals: number): Figures {
  const story = host.lines.join("");
  assert.deepEqual(report.newConnections.failed, [], story);
  assert.deepEqual(report.kept.failed, [], story);
  assert.equal(report.webSockets.cut, 0, "WebSockets stay open");
  const turns = turnsOf(host);
  assert.equal(turns.length, renewals);
  const order = [first, ...turns.map((turn) => turn.fingerprint)];
  assert.deepEqual(
    report.presented.map((leaf) => leaf.fingerprint),
    order,
    "each leaf in its turn, and no other",
  );
  const figures = turns.map(({ fingerprint, renewedAt, installedAt, servedAt }, at): Turn => {
    const [before, now] = [report.presented[at], report.presented[at + 1]];
    assert.ok(before !== undefined && now !== undefined);
    assert.ok(before.lastSeenAt <= servedAt, `a visitor saw ${before.fingerprint} after its successor was proven`);
    const seenAfterMs = now.firstSeenAt - installedAt;
    assert.ok(seenAfterMs <= longestMs, `${fingerprint} was seen ${seenAfterMs} ms after it was installed`);
    return { fingerprint, seenAfterMs, servedAfterMs: servedAt - renewedAt };
  });
  return { turns: figures, report };
}

/** When each leaf after the first was received, switched to and proven, as the agent's log has it. */
function turnsOf(host: TestHost) {
  const events = host.lines.map((line) => {
    const [at = "", , event] = line.split(" ");
    return { at: Date.parse(at), event, fingerprint: /fingerprint="?(sha256:[0-9a-f]{64})/.exec(line)?.[1] ?? "" };
  });
  const served = events.filter(({ event }) => event === "served");
  const renewed = events.filter(({ event }) => event === "renewed");
  return renewed.map(({ at }) => {
    const installed = events.find((one) => one.event === "installed" && one.at >= at);
    const proven = served.find((one) => one.at >= at);
    assert.ok(installed !== undefined && proven !== undefined);
    assert.equal(installed.fingerprint, proven.fingerprint);
    return { fingerprint: proven.fingerprint, renewedAt: at, installedAt: installed.at, servedAt: proven.at };
  });
}

/** One line for the record. */
export function figuresLine(name: string, { turns, report }: Figures): string {
  const { newConnections, kept, webSockets } = report;
  const seen = turns.map((turn) => turn.seenAfterMs);
  const served = turns.map((turn) => turn.servedAfterMs);
  return [
    `${name}: ${turns.length} renewals`,
    `new connections failed ${newConnections.failed.length} / ${newConnections.made}`,
    `kept reset ${kept.resets} / ${kept.requests}`,
    `WebSockets cut ${webSockets.cut} / ${webSockets.opened}`,
    `switch → first seen ${Math.min(...seen)}–${Math.max(...seen)} ms`,
    `renewed → served ${Math.min(...served)}–${Math.max(...served)} ms`,
  ].join(", ");
}
