/**
 * Clients of a proxy, in a thread of their own so that they and what is tested do not hold one another up: some make a new
 * connection for each request, many keep theirs, a few hold WebSockets. Nobody resumes a TLS session, nobody tries again.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

export interface TrafficOptions {
  /** On 127.0.0.1. */
  readonly port: number;
  readonly serverName: string;
  /** PEM of the roots that the server is verified with. */
  readonly ca: string;
  /** PEM, for servers that ask for a client certificate. */
  readonly client?: { readonly cert: string; readonly key: string };
  /** `handshake` is for servers that do not speak HTTP: connections are made and closed, none is kept. */
  readonly kind: "http" | "handshake";
  /** Visitors that make a new connection each time. Default 4. */
  readonly newLoops?: number;
  /** Visitors that keep one connection each. Default 150, with `handshake` 0 and nothing else. */
  readonly kept?: number;
  /** Between two requests of a kept connection. Default 5. */
  readonly keptPauseMs?: number;
  /** Default 2, with `handshake` 0 and nothing else. */
  readonly webSockets?: number;
  /** Default `/`. */
  readonly path?: string;
}

export interface TrafficReport {
  readonly newConnections: { readonly made: number; readonly failed: readonly string[] };
  /**
   * `resets`: requests that died on a connection that had been used before. A connection that the server closed between two
   * requests is made anew and not counted; a request that fails on a new connection, or has another answer than 200, is in `failed`.
   */
  readonly kept: { readonly requests: number; readonly resets: number; readonly failed: readonly string[] };
  /** A WebSocket that was cut is opened again. One that fell silent counts as cut. */
  readonly webSockets: { readonly opened: number; readonly cut: number };
  /**
   * The leaves that new connections of all kinds were shown, in the order of their first sight. `firstSeenAt` is when the first
   * such handshake was done, `lastSeenAt` when the last such connection was begun: milliseconds since the epoch.
   */
  readonly presented: readonly {
    readonly fingerprint: string;
    readonly firstSeenAt: number;
    readonly lastSeenAt: number;
  }[];
}

export interface Traffic extends AsyncDisposable {
  /** As of the last tenth of a second. */
  readonly report: TrafficReport;
  /** Lets the requests under way come to their end. May be called again: the same report. */
  stop(): Promise<TrafficReport>;
}

/** Resolves when every visitor has had one answer, good or bad. */
export async function startTraffic(options: TrafficOptions): Promise<Traffic> {
  if (options.kind === "handshake" && (options.kept ?? 0) + (options.webSockets ?? 0) > 0)
    throw new Error("no connection is kept with kind handshake");
  const worker = new Worker(new URL("traffic-thread.ts", import.meta.url), { workerData: options });
  worker.unref();
  let failure: Error | null = null;
  let report: TrafficReport = {
    newConnections: { made: 0, failed: [] },
    kept: { requests: 0, resets: 0, failed: [] },
    webSockets: { opened: 0, cut: 0 },
    presented: [],
  };
  worker.on("message", (message: TrafficReport | "started") => {
    if (message !== "started") report = message;
  });
  const ended = (async (): Promise<void> => {
    await once(worker, "exit");
    if (failure !== null) throw failure;
  })();
  ended.catch(() => undefined);
  worker.on("error", (error: Error) => (failure = error));
  await Promise.race([
    new Promise<void>((resolve) => worker.on("message", (message) => message === "started" && resolve())),
    ended.then(() => Promise.reject(new Error("the traffic ended by itself"))),
  ]);
  const stop = async (): Promise<TrafficReport> => {
    worker.ref();
    worker.postMessage("stop");
    await ended;
    return report;
  };
  return {
    get report() {
      return report;
    },
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}
