/**
 * `npm run bench`: what the service does in a second, what a renewal costs it, and its share of what a bare handshake costs.
 *
 * Three processes stand side by side and are driven in turn, so that a busy machine slows all of them alike: a bare TLS server, the
 * service, and the service again, on a copy of the same data, with 4 ms added to every fsync. Medians of the rounds are printed.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { serve, type ServiceProcess } from "../support/service-process.ts";
import { checkStore } from "./check-store.ts";
import { makeFleet, type Fleet } from "./fleet.ts";
import {
  concurrency,
  loadGenerator,
  slowFsyncLibrary,
  type LoadGenerator,
  type LoadMode,
  type LoadResult,
} from "./load.ts";
import { residentMb, withPeakResident } from "./process-stats.ts";
import { printReport, type Measured } from "./report.ts";

const addedFsyncMs = 4;
/** So that no figure is of code that has just been compiled. */
const warmUp = 1_000;
/** A leaf renews once; bare handshakes use them again. */
const leavesOfRounds = (plan: Plan): number => 2 * (warmUp + plan.rounds * plan.renewals);

interface Plan {
  readonly rounds: number;
  readonly renewals: number;
}

interface Service {
  readonly process: ServiceProcess;
  readonly dataDir: string;
  readonly pid: number;
  readonly port: number;
  readonly serials: string[];
  idleMb: number;
  peakMb: number;
  /** The next leaf of the fleet that has not renewed here. */
  next: number;
}

const { values: flags } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    renewals: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const plan: Plan = {
  rounds: Number(flags.rounds ?? (flags.quick ? 1 : 3)),
  renewals: Number(flags.renewals ?? (flags.quick ? 1_500 : 8_000)),
};
await bench(plan);

async function bench(plan: Plan): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "newleaf-bench-"));
  const running: (() => Promise<unknown>)[] = [];
  try {
    const load = await loadGenerator(dir);
    const slowLibrary = await slowFsyncLibrary(dir);
    const size = leavesOfRounds(plan);
    console.log(
      `${cpus()[0]?.model ?? "unknown CPU"}, ${availableParallelism()} CPUs · Node ${process.version}, OpenSSL ${process.versions.openssl} · ${load.kind} client, ${concurrency} in flight`,
    );
    console.log(`making ${size} identities with a current leaf each …`);
    const fleet = await makeFleet(dir, size);
    const slowDir = join(dir, "data-slow");
    await cp(fleet.dataDir, slowDir, { recursive: true });

    const bare = await startBare(fleet, running);
    const fast = await startService(fleet.dataDir, {}, running);
    const slow =
      slowLibrary === null
        ? null
        : await startService(slowDir, { LD_PRELOAD: slowLibrary, SLOW_FSYNC_US: String(addedFsyncMs * 1000) }, running);
    if (slow === null) console.log("no C compiler: the slower fsync is skipped (apt-get install gcc)");
    const measured = await runRounds(load, fleet, bare, fast, slow);
    for (const service of [fast, slow])
      if (service !== null && (await service.process.stop()) !== 0) throw new Error("the service did not stop cleanly");
    const checks = await Promise.all(
      [fast, slow].flatMap((service) => (service === null ? [] : [checkStore(service.dataDir, service.serials)])),
    );
    const report = { ...measured, checks };
    printReport(report, { addedFsyncMs });
    if (flags.json) console.log(JSON.stringify(report, null, 2));
  } finally {
    for (const stop of running) await stop();
    await rm(dir, { recursive: true, force: true });
  }
}

async function runRounds(
  load: LoadGenerator,
  fleet: Fleet,
  bare: { port: number; pid: number },
  fast: Service,
  slow: Service | null,
): Promise<Omit<Measured, "checks">> {
  const services = slow === null ? [fast] : [fast, slow];
  for (const service of services) {
    await renewals(load, fleet, service, "fresh", warmUp);
    await renewals(load, fleet, service, "kept", warmUp);
    service.peakMb = 0;
  }
  await load.fire(fleet, { mode: "ping", ...bare, from: 0, count: warmUp });
  const rounds: Record<"ping" | "fresh" | "kept" | "slowFresh" | "slowKept", LoadResult[]> = {
    ping: [],
    fresh: [],
    kept: [],
    slowFresh: [],
    slowKept: [],
  };
  const peaks = { fresh: 0, kept: 0 };
  for (let round = 0; round < plan.rounds; round++) {
    rounds.ping.push(
      allAnswered(await load.fire(fleet, { mode: "ping", ...bare, from: 0, count: plan.renewals }), "200"),
    );
    rounds.fresh.push(await renewals(load, fleet, fast, "fresh", plan.renewals));
    if (slow !== null) rounds.slowFresh.push(await renewals(load, fleet, slow, "fresh", plan.renewals));
    peaks.fresh = Math.max(peaks.fresh, fast.peakMb);
    rounds.kept.push(await renewals(load, fleet, fast, "kept", plan.renewals));
    if (slow !== null) rounds.slowKept.push(await renewals(load, fleet, slow, "kept", plan.renewals));
    peaks.kept = Math.max(peaks.kept, fast.peakMb);
    console.log(
      `round ${round + 1} of ${plan.rounds}: ${rateOf(rounds.ping)} bare handshakes/s, ${rateOf(rounds.fresh)} renewals/s fresh, ${rateOf(rounds.kept)}/s kept`,
    );
  }
  const commitMs = await Promise.all(services.map(({ process }) => meanCommitMs(process.urls.ops)));
  return {
    rounds,
    residentMb: { idle: fast.idleMb, ...peaks },
    commitMs: { fast: commitMs[0] ?? Number.NaN, slow: commitMs[1] ?? null },
  };
}

/** @throws Error unless every single one was answered with 201 and a serial */
async function renewals(
  load: LoadGenerator,
  fleet: Fleet,
  service: Service,
  mode: LoadMode,
  count: number,
): Promise<LoadResult> {
  const request = { mode, port: service.port, pid: service.pid, from: service.next, count };
  const { result, peakMb } = await withPeakResident(service.pid, () => load.fire(fleet, request));
  service.next += count;
  service.peakMb = Math.max(service.peakMb, peakMb);
  service.serials.push(...result.serials);
  allAnswered(result, "201");
  if (result.serials.length !== count) throw new Error(`${count - result.serials.length} answers had no serial`);
  return result;
}

function allAnswered(result: LoadResult, status: string): LoadResult {
  if (result.statuses[status] !== result.count)
    throw new Error(
      `not every answer was ${status}: ${JSON.stringify(result.statuses)}, ${result.failures} without an answer`,
    );
  return result;
}

function rateOf(results: readonly LoadResult[]): string {
  const last = results.at(-1);
  return last === undefined ? "-" : (last.count / last.seconds).toFixed(0);
}

async function startService(
  dataDir: string,
  env: Readonly<Record<string, string>>,
  running: (() => Promise<unknown>)[],
): Promise<Service> {
  const process = await serve(dataDir, env);
  running.push(() => (process.child.exitCode === null ? process.kill() : Promise.resolve()));
  const { pid } = process.child;
  if (pid === undefined) throw new Error("the service has no pid");
  await sleep(1_500);
  const idleMb = await residentMb(pid);
  return {
    process,
    dataDir,
    pid,
    port: Number(new URL(process.urls.agents).port),
    serials: [],
    idleMb,
    peakMb: 0,
    next: 0,
  };
}

async function startBare(fleet: Fleet, running: (() => Promise<unknown>)[]): Promise<{ port: number; pid: number }> {
  const child: ChildProcess = fork(join(import.meta.dirname, "bare-server.ts"));
  const exit = once(child, "exit");
  running.push(async () => {
    child.kill();
    await exit;
  });
  child.send(fleet.tls);
  const [port] = (await once(child, "message")) as [number];
  return { port, pid: child.pid ?? 0 };
}

/** From the service's own metric: shows that the added milliseconds arrive. */
async function meanCommitMs(ops: string): Promise<number> {
  const text = await (await fetch(new URL("/metrics", ops))).text();
  const value = (name: string): number =>
    Number(new RegExp(`^newleaf_store_commit_seconds_${name} (\\S+)`, "m").exec(text)?.[1] ?? Number.NaN);
  return (value("sum") / value("count")) * 1000;
}
