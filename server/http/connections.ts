/** Keeps the connections of a listener by the leaf they were made with, and ends those whose leaf is refused from now on. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Server } from "node:https";
import type { TLSSocket } from "node:tls";
import type { Connections } from "../authority/revocation/connections.ts";
import { peerOfSocket } from "./peer.ts";

/** What is being answered when a leaf falls gets its answer (a held poll: why it is refused), within this time. */
const lastWords = 1_000;

interface Kept {
  answering: number;
  ended: boolean;
}

/**
 * From the handshake on, so that a connection which has asked nothing yet ends as well. Requests cannot slip through meanwhile: the
 * gate judges each one by the store.
 */
export function keepConnections(server: Server, connections: Connections): void {
  const kept = new WeakMap<object, Kept>();
  server.on("secureConnection", (socket: TLSSocket) => {
    const peer = peerOfSocket(socket);
    if (peer === null) return;
    const state: Kept = { answering: 0, ended: false };
    kept.set(socket, state);
    const forget = connections.keep(peer.serial, () => end(socket, state));
    socket.once("close", forget);
  });
  server.prependListener("request", (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request;
    const state = kept.get(socket);
    if (state === undefined) return;
    state.answering += 1;
    response.once("close", () => {
      state.answering -= 1;
      if (state.ended && state.answering === 0) socket.destroySoon();
    });
  });
}

function end(socket: TLSSocket, state: Kept): void {
  if (state.ended) return;
  state.ended = true;
  if (state.answering === 0) socket.destroy();
  else setTimeout(() => socket.destroy(), lastWords).unref();
}
