/** Stands between an agent and its service, and lets through, hinders or answers as a test asks. TCP, so that TLS stays the service's. */
import { createServer as createHttpsServer } from "node:https";
import { connect, createServer, type Socket } from "node:net";
import { pemEncode } from "@newleaf/shared/pem";
import type { TestAuthority } from "./test-ca.ts";
import { listen } from "./tls-server.ts";

/** What becomes of a connection. `answers`: the stand-in behind `refuser` takes it. */
export type FrontMode = "through" | "closed" | "silent" | "resets" | "trickles" | "answers";

export interface Front {
  readonly port: number;
  mode: FrontMode;
  /** Connections since the start. */
  readonly count: number;
  stop(): Promise<void>;
}

/** One byte of the service's in this time: no answer is ever complete. */
const tricklePause = 250;

/**
 * @param target port of the service's listener
 * @param refuser port of what answers in its place
 */
export async function startFront(target: number, refuser: number): Promise<Front> {
  let count = 0;
  const server = createServer((socket) => {
    count += 1;
    socket.on("error", () => undefined);
    if (front.mode === "closed") return void socket.destroy();
    if (front.mode === "resets") return void socket.once("data", () => socket.resetAndDestroy());
    if (front.mode === "silent") return void socket.resume();
    const other = connect({ host: "127.0.0.1", port: front.mode === "answers" ? refuser : target });
    other.on("error", () => socket.destroy());
    other.on("close", () => socket.destroy());
    socket.on("close", () => other.destroy());
    socket.pipe(other);
    if (front.mode === "trickles") trickle(other, socket);
    else other.pipe(socket);
  });
  const { port, stop } = await listen(server);
  const front: Front = {
    port,
    mode: "through",
    stop,
    get count() {
      return count;
    },
  };
  return front;
}

function trickle(from: Socket, to: Socket): void {
  let held = Buffer.alloc(0);
  from.on("data", (chunk: Buffer) => (held = Buffer.concat([held, chunk])));
  const timer = setInterval(() => {
    if (held.length > 0) to.write(held.subarray(0, 1));
    held = held.subarray(1);
  }, tricklePause);
  to.on("close", () => clearInterval(timer));
}

export interface Refusal {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** Answers every request alike; trusted by whoever trusts `authority`. */
export async function startRefuser(authority: TestAuthority, refusal: { now: Refusal }) {
  const leaf = authority.issue();
  const server = createHttpsServer(
    {
      key: leaf.key.export({ type: "pkcs8", format: "pem" }),
      cert: pemEncode("CERTIFICATE", leaf.certificate),
    },
    (request, response) => {
      request.resume();
      const { status, headers = {}, body } = refusal.now;
      const type = body === undefined ? {} : { "content-type": "application/problem+json" };
      response.writeHead(status, { ...type, ...headers }).end(body === undefined ? "" : JSON.stringify(body));
    },
  );
  return listen(server);
}
