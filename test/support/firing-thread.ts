/**
 * Requests without pause from a thread of its own, on kept connections and on new ones; remembers when each that was served had begun.
 * Says `served` once it was served, and what it remembers when it is told to stop.
 */
import { Agent, request } from "node:https";
import { parentPort, workerData } from "node:worker_threads";

export interface Firing {
  readonly url: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** Connections that are used again and again, and loops that open a new one for each request. */
  readonly kept: number;
  readonly fresh: number;
}

/** Moments are of the machine's monotonic clock, nanoseconds, which all threads share. */
export interface Fired {
  /** When each request that got a 2xx had begun, and when its answer was there. */
  readonly served: readonly (readonly [begun: bigint, answered: bigint])[];
  readonly refused: number;
  /** Reset, or closed before an answer. */
  readonly broken: number;
}

const { url, ca, cert, key, kept, fresh } = workerData as Firing;
const served: [bigint, bigint][] = [];
let refused = 0;
let broken = 0;
let stopping = false;

function fire(agent: Agent): Promise<void> {
  return new Promise((resolve) => {
    const begun = process.hrtime.bigint();
    const asked = request(url, { agent, ca, cert, key }, (answer) => {
      answer.resume().once("close", () => {
        const status = answer.statusCode ?? 0;
        if (status >= 200 && status < 300) {
          if (served.length === 0) parentPort?.postMessage("served");
          served.push([begun, process.hrtime.bigint()]);
        } else refused += 1;
        resolve();
      });
    });
    asked.once("error", () => {
      broken += 1;
      resolve();
    });
    asked.end();
  });
}

async function loop(agentOf: () => Agent): Promise<void> {
  while (!stopping) {
    await fire(agentOf());
    // Refusals come as fast as answers: the thread must hear that it is to stop.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const keepers = Array.from({ length: kept }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
const loops = [
  ...keepers.map((agent) => loop(() => agent)),
  ...Array.from({ length: fresh }, () => loop(() => new Agent({ keepAlive: false }))),
];
parentPort?.once("message", () => (stopping = true));
await Promise.all(loops);
for (const agent of keepers) agent.destroy();
parentPort?.postMessage({ served, refused, broken } satisfies Fired);
