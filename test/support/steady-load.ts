/** Clients that send requests without pause, each on a new connection with a client certificate. */
import { request } from "node:https";
import { fingerprint } from "@newleaf/shared/fingerprint";
import type { TLSSocket } from "node:tls";

export interface Visitor {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

export interface Visit {
  readonly status: number;
  /** Fingerprint of the leaf that the server presented. */
  readonly presented: string;
  readonly body: string;
}

/** One request over a fresh connection. */
export function visit(port: number, serverName: string, visitor: Visitor): Promise<Visit> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: "127.0.0.1",
        port,
        servername: serverName,
        headers: { host: `${serverName}:${port}` },
        agent: false,
        ...visitor,
        timeout: 5000,
      },
      (response) => {
        // The certificate is that of the connection, which may be gone when the body is read.
        const der = (response.socket as TLSSocket).getPeerX509Certificate()?.raw;
        let body = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, presented: der === undefined ? "" : fingerprint(der), body }),
        );
        response.on("error", reject);
      },
    );
    call.on("timeout", () => call.destroy(new Error("timeout")));
    call.on("error", reject);
    call.end();
  });
}

export interface Load extends AsyncDisposable {
  readonly requests: number;
  readonly failures: readonly string[];
  /** Fingerprints in the order they were first seen. */
  readonly presented: readonly string[];
  stop(): Promise<void>;
}

/** `loops` visitors at once, until stopped. */
export function startLoad(port: number, serverName: string, visitor: Visitor, loops = 3): Load {
  const stopping = new AbortController();
  let requests = 0;
  const failures: string[] = [];
  const presented: string[] = [];
  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      requests += 1;
      try {
        const answer = await visit(port, serverName, visitor);
        if (answer.status !== 200) failures.push(`${answer.status} ${answer.body.slice(0, 120)}`);
        if (!presented.includes(answer.presented)) presented.push(answer.presented);
      } catch (error) {
        failures.push((error as Error).message);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const running = Promise.all(Array.from({ length: loops }, loop));
  const stop = async (): Promise<void> => {
    stopping.abort();
    await running;
  };
  return {
    get requests() {
      return requests;
    },
    failures,
    presented,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
