/** From the answer of a revocation on the service serves the revoked leaf nothing: not on kept connections, not on new ones, not under load. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { credentials, settled, type Host } from "../support/agent-client.ts";
import type { Fired, Firing } from "../support/firing-thread.ts";
import { startService, type TestService } from "../support/service.ts";

const rounds = 9;
const threads = 2;
/** Of each thread: connections of the revoked leaf. */
const kept = 15;
const fresh = 5;
/** Connections of others, who go on. */
const bystanders = 20;
const before = 700;
const after = 1_000;
/** Time passes faster for the service, so that its limit of requests for each leaf, which is not what is tried here, is never reached. */
const refillEvery = 10;
const refill = 20_000;

function firing(service: TestService, host: Host, load: Pick<Firing, "kept" | "fresh">): Worker {
  const data: Firing = {
    url: `${service.urls.agents}/v1/renewal-window`,
    ca: service.roots,
    ...credentials(host),
    ...load,
  };
  const worker = new Worker(join(import.meta.dirname, "..", "support", "firing-thread.ts"), { workerData: data });
  worker.unref();
  return worker;
}

async function stop(worker: Worker): Promise<Fired> {
  const told = once(worker, "message") as Promise<[Fired]>;
  worker.postMessage("stop");
  const [fired] = await told;
  await worker.terminate();
  return fired;
}

test("no request that begins after the answer of the revocation is served", { timeout: 280_000 }, async (t) => {
  await using service = await startService();
  const refilling = setInterval(() => service.clock.advance(refill), refillEvery).unref();
  const good = await settled(service, "bystander");
  const others = firing(service, good, { kept: bystanders, fresh: 0 });
  await once(others, "message");
  const ways = ["revocation", "hold", "suspension"] as const;
  let servedBefore = 0;
  let refused = 0;
  let broken = 0;
  const inFlight: number[] = [];
  const lastAnswers: number[] = [];
  const took: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const victim = await settled(service, `victim-${round}`);
    const workers = Array.from({ length: threads }, () => firing(service, victim, { kept, fresh }));
    await Promise.all(workers.map((worker) => once(worker, "message")));
    await sleep(before);
    const asked = process.hrtime.bigint();
    const way = ways[round % ways.length] ?? "revocation";
    await act(service, victim, way);
    const answered = process.hrtime.bigint();
    await sleep(after);
    const fired = await Promise.all(workers.map(stop));
    const served = fired.flatMap((one) => one.served);
    const late = served.filter(([begun]) => begun > answered);
    assert.deepEqual(late, [], `${way}: ${late.length} requests served that began after the answer`);
    assert.ok(served.length > 100, "they were served before");
    servedBefore += served.length;
    refused += fired.reduce((sum, one) => sum + one.refused, 0);
    broken += fired.reduce((sum, one) => sum + one.broken, 0);
    inFlight.push(served.filter(([, end]) => end > answered).length);
    lastAnswers.push(Math.max(...served.map(([, end]) => Number(end - answered) / 1e6)));
    took.push(Number(answered - asked) / 1e6);
  }
  clearInterval(refilling);
  const beside = await stop(others);
  assert.equal(beside.refused, 0, "others were never refused");
  const most = (values: readonly number[]): string => Math.max(...values).toFixed(1);
  t.diagnostic(
    `${rounds} rounds (${ways.join(", ")} in turn), ${threads * kept} kept and ${threads * fresh} new connections each, ${bystanders} of others`,
  );
  t.diagnostic(`served before: ${servedBefore}; others meanwhile: ${beside.served.length}, ${beside.broken} broken`);
  t.diagnostic(`served that began after the answer: 0; refused ${refused}, closed ${broken}`);
  t.diagnostic(
    `on their way at the answer, at most: ${most(inFlight)}; the last of them ${most(lastAnswers)} ms after it`,
  );
  t.diagnostic(`the act took at most ${most(took)} ms`);
});

async function act(service: TestService, { answer }: Host, way: "revocation" | "hold" | "suspension"): Promise<void> {
  if (way === "suspension") return service.admin("POST", `/v1/identities/${answer.identity}/suspension`);
  const reason = way === "hold" ? "certificateHold" : "keyCompromise";
  await service.admin("POST", "/v1/revocations", { serial: answer.serial, reason });
}
