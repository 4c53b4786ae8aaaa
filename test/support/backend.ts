/** What stands behind a proxy under traffic: HTTP that takes up to 20 ms, and WebSockets that tick; in a thread of its own. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

export interface Backend extends AsyncDisposable {
  /** On 127.0.0.1, plain HTTP. */
  readonly port: number;
  /** `http://127.0.0.1:…` */
  readonly url: string;
  stop(): Promise<void>;
}

/** `maxDelayMs`: requests take between nothing and this, default 20. */
export async function startBackend({ maxDelayMs = 20 }: { maxDelayMs?: number } = {}): Promise<Backend> {
  const worker = new Worker(new URL("backend-thread.ts", import.meta.url), { workerData: { maxDelayMs } });
  const [port] = (await once(worker, "message")) as [number];
  worker.unref();
  const stop = async (): Promise<void> => void (await worker.terminate());
  return { port, url: `http://127.0.0.1:${port}`, stop, [Symbol.asyncDispose]: stop };
}
