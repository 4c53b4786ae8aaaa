/** The load generator without a C compiler: the same requests from this process. Node spends 1.3 to 2.9 ms of CPU on a handshake. */
import { readFile } from "node:fs/promises";
import { Agent, request as httpsRequest } from "node:https";
import { createPrivateKey } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { pemEncode } from "@newleaf/shared/pem";
import type { Fleet } from "./fleet.ts";
import { concurrency, type LoadRequest, type LoadResult } from "./load.ts";
import { cpuMs } from "./process-stats.ts";

interface Tuple {
  readonly cert: string;
  readonly key: string;
  readonly body: string;
}

interface Answer {
  readonly status: number;
  readonly serial: string | null;
}

interface Tally {
  readonly latencies: number[];
  readonly answers: (Answer | null)[];
}

/** Kept connections are opened by the batch, so that the service does not hold the whole fleet's at once. */
const keptBatch = 1_000;

export async function loadFromNode(fleet: Fleet, request: LoadRequest): Promise<LoadResult> {
  const { mode, from, count, pid } = request;
  const all = await readTuples(fleet);
  const tuples = Array.from({ length: count }, (_, index) => all[(from + index) % all.length] as Tuple);
  const tally: Tally = { latencies: [], answers: [] };
  let ms = 0;
  let spent = 0;
  const batchSize = mode === "kept" ? keptBatch : count;
  for (let first = 0; first < count; first += batchSize) {
    const jobs = tuples.slice(first, first + batchSize).map((tuple) => ({
      tuple,
      agent: mode === "kept" ? new Agent({ keepAlive: true, maxSockets: 1 }) : null,
    }));
    if (mode === "kept") {
      await inParallel(jobs, ({ tuple, agent }) => ask(request, tuple, agent, "/roots.pem"));
      await sleep(200);
    }
    const began = performance.now();
    const before = await cpuMs(pid);
    await inParallel(jobs, ({ tuple, agent }) =>
      timed(tally, ask(request, tuple, agent, mode === "ping" ? "/" : null)),
    );
    spent += (await cpuMs(pid)) - before;
    ms += performance.now() - began;
    for (const { agent } of jobs) agent?.destroy();
  }
  return resultOf(tally, ms / 1000, spent / count);
}

async function timed(tally: Tally, answer: Promise<Answer>): Promise<void> {
  const began = performance.now();
  tally.answers.push(await answer.catch(() => null));
  tally.latencies.push(performance.now() - began);
}

/** `get` null: a renewal. */
function ask({ port }: LoadRequest, tuple: Tuple, agent: Agent | null, get: string | null): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const { cert, key, body } = tuple;
  const request = httpsRequest({
    host: "127.0.0.1",
    port,
    path: get ?? "/v1/renewals",
    method: get === null ? "POST" : "GET",
    headers: get === null ? { "content-type": "application/json", "content-length": Buffer.byteLength(body) } : {},
    agent: agent ?? false,
    cert,
    key,
    rejectUnauthorized: false,
  });
  request.on("error", reject);
  request.on("response", (response) => {
    let text = "";
    response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    response.on("error", reject);
    response.on("end", () => {
      resolve({ status: response.statusCode ?? 0, serial: /"serial":"([0-9a-f]+)"/.exec(text)?.[1] ?? null });
    });
  });
  request.end(get === null ? body : undefined);
  return promise;
}

async function inParallel<T>(jobs: readonly T[], run: (job: T) => Promise<unknown>): Promise<void> {
  const queue = jobs.values();
  const worker = async (): Promise<void> => {
    for (const job of queue) await run(job);
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

function resultOf({ latencies, answers }: Tally, seconds: number, cpuMsEach: number): LoadResult {
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  const statuses: Record<string, number> = {};
  for (const answer of answers) if (answer !== null) statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
  return {
    count: answers.length,
    seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
    cpuMs: cpuMsEach,
    failures: answers.filter((answer) => answer === null).length,
    statuses,
    serials: answers.flatMap((answer) => (answer?.status === 201 && answer.serial !== null ? [answer.serial] : [])),
  };
}

async function readTuples({ tuplesFile, chainFile }: Fleet): Promise<readonly Tuple[]> {
  const bytes = await readFile(tuplesFile);
  const chain = pemEncode("CERTIFICATE", await readFile(chainFile));
  const tuples: Tuple[] = [];
  let at = 0;
  const part = (): Buffer => {
    const length = bytes.readUInt32LE(at);
    at += 4 + length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const cert = pemEncode("CERTIFICATE", part()) + chain;
    const key = createPrivateKey({ key: part(), format: "der", type: "sec1" });
    tuples.push({ cert, key: key.export({ type: "pkcs8", format: "pem" }).toString(), body: part().toString() });
  }
  return tuples;
}
