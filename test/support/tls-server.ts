import { once } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { createSecureContext, createServer, type SecureContext, type TlsOptions, type TLSSocket } from "node:tls";
import type { Material } from "../../agent-client/install/material.ts";
import { renderFiles } from "../../agent-client/install/render.ts";

export interface TlsServer {
  readonly port: number;
  /** `127.0.0.1:port` */
  readonly connect: string;
  /** Every connection that got through its handshake. */
  readonly sockets: readonly TLSSocket[];
  /** From now on, for new connections. */
  serve(context: SecureContext): void;
  stop(): Promise<void>;
}

/** What a server presents: leaf and intermediates, or the leaf alone. */
export function contextOf(material: Material, options: { chain?: boolean } = {}): SecureContext {
  const files = renderFiles(material, ["key.pem", options.chain === false ? "cert.pem" : "fullchain.pem"]);
  const [key, cert] = [...files.values()];
  return createSecureContext({ key, cert });
}

/** A TLS server on 127.0.0.1 whose certificate can be changed, for each handshake if need be. */
export async function startTlsServer(
  context: SecureContext | (() => SecureContext),
  options: TlsOptions = {},
): Promise<TlsServer> {
  let present = context;
  const sockets: TLSSocket[] = [];
  const server = createServer({
    SNICallback: (_name, done) => done(null, typeof present === "function" ? present() : present),
    ...options,
  });
  server.on("secureConnection", (socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    socket.resume();
  });
  server.on("tlsClientError", () => undefined);
  const { port, stop } = await listen(server);
  return {
    port,
    connect: `127.0.0.1:${port}`,
    sockets,
    serve(next) {
      present = next;
    },
    stop,
  };
}

/** Lets a server listen on a free port of 127.0.0.1. `stop` also ends what it has open. */
export async function listen(server: Server, port = 0): Promise<{ port: number; stop(): Promise<void> }> {
  const open = new Set<{ destroy(): void }>();
  server.on("connection", (socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    socket.on("error", () => undefined);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      server.close();
      for (const socket of open) socket.destroy();
      await once(server, "close");
    },
  };
}
