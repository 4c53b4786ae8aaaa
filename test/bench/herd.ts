/**
 * What becomes of a fleet that comes back at once after a day of silence: `bin/node test/bench/herd.ts`.
 *
 * Twice. For real: hosts with leaves of their own, from minutes to days before their end, ask a real service over real handshakes until they
 * are served, as agents do. And a hundred thousand on a virtual clock, with the service's own line and the costs measured in the first part:
 * first within seconds, which is worse than any outage makes it, then within an hour.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { renewalLimits } from "../../server/authority/herd/admission.ts";
import { type HerdClient, runHerd } from "../support/herd-model.ts";
import { serve } from "../support/service-process.ts";
import { checkStore } from "./check-store.ts";
import { makeFleet } from "./fleet.ts";
import { compileLoad } from "./load.ts";
import { residentMb, withPeakResident } from "./process-stats.ts";

const run = promisify(execFile);
const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const life = 30 * day;

const { values: flags } = parseArgs({
  options: {
    identities: { type: "string", default: "10000" },
    within: { type: "string", default: "10" },
    "model-only": { type: "boolean", default: false },
    "handshake-ms": { type: "string", default: "0.9" },
    "renew-ms": { type: "string", default: "1.1" },
  },
});

/** One in a hundred has less than an hour, four have less than a day, the others up to a week. By index, the most urgent first. */
function leftOf(index: number, size: number): number {
  const share = index / size;
  if (share < 0.01) return 20 * minute + (share / 0.01) * 40 * minute;
  if (share < 0.05) return hour + ((share - 0.01) / 0.04) * 23 * hour;
  return day + ((share - 0.05) / 0.95) * 6 * day;
}

interface Wait {
  readonly left: number;
  /** From its first request to the answer with its certificate. */
  readonly seconds: number;
  /** Those that were answered. */
  readonly attempts: number;
  /** Of the request that was served. */
  readonly lastMs: number;
}

console.log(
  `${cpus()[0]?.model ?? "unknown CPU"}, ${availableParallelism()} CPUs · Node ${process.version} · ${renewalLimits.maxInWork} in work, ${renewalLimits.maxWaiting} waiting`,
);
if (!flags["model-only"]) await realHerd(Number(flags.identities), Number(flags.within));
modelHerd("100,000 within 10 s", 10_000);
modelHerd("100,000 within an hour", hour);

async function realHerd(size: number, within: number): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "newleaf-herd-"));
  try {
    const load = await compileLoad(dir);
    if (load === null) return console.log("no C compiler: only the model (apt-get install gcc libssl-dev)");
    console.log(`\nmaking ${size} identities, their leaves issued three to four weeks ago …`);
    const fleet = await onOldClock((setAge) => {
      const beforeBatch = (first: number): void => setAge(life - leftOf(first, size));
      return makeFleet(dir, size, { batch: Math.max(10, Math.floor(size / 200)), beforeBatch });
    });
    const service = await serve(fleet.dataDir);
    const { pid = 0 } = service.child;
    const idleMb = await residentMb(pid);
    const serialsFile = join(dir, "hosts");
    const numbers = ["0", size, within, pid].map(String);
    const { port } = new URL(service.urls.agents);
    const args = ["herd", port, fleet.tuplesFile, fleet.chainFile, ...numbers, serialsFile];
    const { result, peakMb } = await withPeakResident(pid, () => run(load, args));
    const summary = JSON.parse(result.stdout) as { seconds: number; cpuMs: number; sentAway: number };
    const hosts = (await readFile(serialsFile, "utf8"))
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    const metrics = await (await fetch(new URL("/metrics", service.urls.ops))).text();
    if ((await service.stop()) !== 0) throw new Error("the service did not stop cleanly");
    const waits = hosts.map(([first, served, attempts, last, unanswered], index) => ({
      left: leftOf(index, size),
      seconds: (Number(served) - Number(first)) / 1000,
      attempts: Number(attempts) - Number(unanswered),
      lastMs: Number(last),
    }));
    const unanswered = hosts.reduce((sum, host) => sum + Number(host[4]), 0);
    console.log(`\n${size} real hosts within ${within} s, all served after ${summary.seconds.toFixed(0)} s`);
    console.log(
      `  sent away ${summary.sentAway} times, no answer ${unanswered} times; the service: ${summary.cpuMs.toFixed(2)} ms of CPU a host, ${idleMb.toFixed(0)} MB idle, ${peakMb.toFixed(0)} MB at most`,
    );
    printWaits(waits);
    for (const line of metrics.split("\n"))
      if (/^newleaf_(admission_turned_away_total|tls_handshake_failures_total)\{/.test(line)) console.log(`  ${line}`);
    const { renewals } = await checkStore(
      fleet.dataDir,
      hosts.map((host) => host[5] ?? ""),
    );
    console.log(`  checked: ${renewals} renewals in the store, each under a serial of its own; audit chain whole`);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** `init` and the service in this process read the system's clock: it is set back, and moved on from batch to batch. */
async function onOldClock<T>(work: (setAge: (ms: number) => void) => Promise<T>): Promise<T> {
  const { now } = Date;
  const real = now.bind(Date);
  let age = life + day;
  Date.now = () => Math.round(real() - age);
  try {
    return await work((ms) => (age = ms));
  } finally {
    Date.now = now;
  }
}

function modelHerd(title: string, within: number): void {
  const size = 100_000;
  const random = generator(1);
  const clients: HerdClient[] = Array.from({ length: size }, (_, index) => ({
    who: `host-${index}`,
    left: leftOf(index, size),
    due: true,
    arrives: random() * within,
  }));
  const costs = { handshakeMs: Number(flags["handshake-ms"]), renewMs: Number(flags["renew-ms"]) };
  const outcome = runHerd({
    ...costs,
    clients,
    limits: renewalLimits,
    maxConnections: 1_024,
    random,
  });
  const drained = Math.max(...outcome.served.map(({ at }) => at)) / 1000;
  console.log(
    `\nmodel: ${title}, ${costs.handshakeMs} ms a handshake and ${costs.renewMs} ms a renewal: drained after ${drained.toFixed(0)} s`,
  );
  console.log(
    `  lost ${outcome.lost.length}; sent away ${outcome.turnedAway} times, no room ${outcome.refusedConnections} times; longest line ${outcome.longestLine}; out of order ${outcome.outOfOrder}`,
  );
  printWaits(
    outcome.served.map(({ client, at, attempts, inLineMs }) => ({
      left: client.left,
      seconds: (at - client.arrives) / 1000,
      attempts,
      lastMs: inLineMs,
    })),
  );
}

function printWaits(waits: readonly Wait[]): void {
  const classes = [
    ["under an hour left", 0, hour],
    ["under a day left", hour, day],
    ["more", day, life],
  ] as const;
  console.log(
    "                      hosts   until served: p50    p99    max s   at first answer    last request p50    p99 ms",
  );
  for (const [name, least, most] of classes) {
    const these = waits.filter(({ left }) => left >= least && left < most);
    const at = quantiles(these.map(({ seconds }) => seconds));
    const last = quantiles(these.map(({ lastMs }) => lastMs));
    const once = these.filter(({ attempts }) => attempts === 1).length;
    const cells = [at(0.5), at(0.99), at(1)].map((value) => value.toFixed(1).padStart(7)).join("");
    console.log(
      `  ${name.padEnd(18)} ${String(these.length).padStart(6)} ${"".padStart(12)}${cells} ${((100 * once) / these.length).toFixed(1).padStart(16)} % ${last(0.5).toFixed(0).padStart(16)} ${last(0.99).toFixed(0).padStart(7)}`,
    );
  }
}

function quantiles(values: readonly number[]): (share: number) => number {
  const sorted = values.toSorted((a, b) => a - b);
  return (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** The same herd each time (Lehmer). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
