/**
 * Handshakes in turn. The urgent cannot be told from the others before theirs, so it must be cheap to wait for one: a connection whose turn
 * has not come is a socket nobody reads, a few kilobytes, where one in its handshake takes a hundred. And a hundred thousand that were all
 * begun at once would all be finished too late.
 */
import type { Socket } from "node:net";
import type { Server } from "node:tls";
import type { Crowd } from "../authority/crowd.ts";

/** Under way at once: what the event loop does in one round, beside the renewals that are in work. */
const maxAtOnce = 256;
/** Waiting for theirs; more are closed, and come back by their own back-off. */
const maxWaiting = 10_000;
/** Closed rather than begun: its client, who gives the whole request twenty seconds, would not see the end of it. */
const maxWait = 8_000;

export interface HandshakeLimits {
  readonly maxAtOnce?: number;
  readonly maxWaiting?: number;
  readonly maxWait?: number;
}

interface Waiting {
  readonly socket: Socket;
  readonly since: number;
}

/**
 * The server must have been made with `pauseOnConnect`. `onRefused` hears of each connection that was closed unbegun; `crowd` is kept up to
 * date with how many wait.
 */
export function handshakesInTurn(
  server: Server,
  onRefused: (socket: Socket) => void,
  crowd: Crowd = { waiting: 0 },
  limits: HandshakeLimits = {},
): void {
  const most = { maxAtOnce, maxWaiting, maxWait, ...limits };
  const beginners = server.listeners("connection");
  const line: Waiting[] = [];
  let underWay = 0;

  const begin = (socket: Socket): void => {
    underWay += 1;
    const over = onceOnly(() => {
      underWay -= 1;
      next();
    });
    ending.set(socket, over);
    socket.once("close", over);
    for (const listener of beginners) listener.call(server, socket);
  };
  const next = (): void => {
    const now = performance.now();
    while (underWay < most.maxAtOnce) {
      const waiting = line.shift();
      crowd.waiting = line.length;
      if (waiting === undefined) return;
      if (waiting.socket.destroyed) continue;
      if (now - waiting.since > most.maxWait) refuse(waiting.socket);
      else begin(waiting.socket);
    }
  };
  const refuse = (socket: Socket): void => {
    onRefused(socket);
    socket.destroy();
  };
  const ending = new WeakMap<object, () => void>();

  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    if (underWay < most.maxAtOnce) return begin(socket);
    if (line.length >= most.maxWaiting) return refuse(socket);
    // Reset by its client while it waits.
    socket.on("error", () => socket.destroy());
    line.push({ socket, since: performance.now() });
    crowd.waiting = line.length;
  });
  const ended = (tls: object): void => {
    // oxlint-disable-next-line no-underscore-dangle -- the only link from the TLS socket to the one seen at `connection`
    const raw = (tls as { _parent?: Socket })._parent;
    if (raw !== undefined) ending.get(raw)?.();
  };
  server.on("secureConnection", ended);
  server.on("tlsClientError", (_error, socket) => ended(socket));
}

function onceOnly(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    work();
  };
}
