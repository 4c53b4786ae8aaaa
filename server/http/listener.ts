/** One listener: its socket, its limits, its failed handshakes, and a stop that answers what has begun. */
import { createServer as createHttpServer, type RequestListener, type Server as HttpServer } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { AppError } from "@newleaf/shared/problems";
import type { Connections } from "../authority/revocation/connections.ts";
import type { Crowd } from "../authority/herd/crowd.ts";
import type { Address } from "../config-tree.ts";
import type { Events, HandshakeFailure } from "../events.ts";
import { keepConnections } from "./connections.ts";
import type { ListenerName } from "./context.ts";
import { watchCrowd } from "./crowd-watch.ts";
import type { SecureContextSettings } from "./tls.ts";

const handshakeTimeout = 10_000;
const headersTimeout = 10_000;
const requestTimeout = 30_000;
const keepAliveTimeout = 65_000;
const maxHeaderSize = 16 * 1024;
/** Those with a leaf may be many; strangers share less than one process can hold. */
const maxConnections: Readonly<Record<ListenerName, number>> = {
  agents: 15_000,
  enrollment: 1_000,
  admin: 500,
  public: 1_000,
  ops: 100,
};
/** Connections that wait in the kernel, where they cost next to nothing, and not in their clients' retries; the kernel's own bound is somaxconn. */
const backlog = 1_024;
const stopGrace = 10_000;

export interface Listener extends AsyncDisposable {
  readonly name: ListenerName;
  /** The real one, also where port 0 was asked for. */
  readonly address: Address;
  /** TLS listeners only: from the next handshake on. */
  useCertificate(settings: SecureContextSettings): void;
}

export interface ListenerOptions {
  readonly name: ListenerName;
  readonly address: Address;
  readonly app: RequestListener;
  readonly events: Events;
  /** Absent: plain HTTP. */
  readonly tls?: {
    readonly settings: SecureContextSettings;
    readonly clientCertificates: boolean;
    /** Where connections are kept by the leaf they were made with. */
    readonly connections: Connections;
    /** Told when more knock than are let in. */
    readonly crowd?: Crowd;
  };
}

/** Resolves when it listens; rejects with what the address is and why it cannot be had. */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const server = options.tls === undefined ? plainServer(options) : tlsServer(options, options.tls);
  server.maxConnections = maxConnections[options.name];
  server.keepAliveTimeout = keepAliveTimeout;
  server.headersTimeout = headersTimeout;
  server.requestTimeout = requestTimeout;
  await listen(server, options);
  const { port } = server.address() as AddressInfo;
  return {
    name: options.name,
    address: { host: options.address.host, port },
    useCertificate(settings) {
      if ("setSecureContext" in server) server.setSecureContext(settings);
    },
    [Symbol.asyncDispose]: () => stop(server),
  };
}

function plainServer({ app }: ListenerOptions): HttpServer {
  return createHttpServer({ maxHeaderSize }, app);
}

/** `rejectUnauthorized: false`: Node would only drop the connection; the gate answers instead, on every request. */
function tlsServer({ app, name, events }: ListenerOptions, tls: NonNullable<ListenerOptions["tls"]>): HttpsServer {
  const server = createHttpsServer(
    {
      ...tls.settings,
      requestCert: tls.clientCertificates,
      rejectUnauthorized: false,
      handshakeTimeout,
      maxHeaderSize,
      ALPNProtocols: ["http/1.1"],
    },
    app,
  );
  if (tls.crowd !== undefined) watchCrowd(server, tls.crowd);
  if (tls.clientCertificates) keepConnections(server, tls.connections);
  const addresses = new WeakMap<object, string>();
  // The address is gone from a socket that was reset: note it while it is there.
  server.on("connection", (socket: Socket) => addresses.set(socket, socket.remoteAddress ?? "unknown"));
  server.on("tlsClientError", (error: NodeJS.ErrnoException, socket) => {
    // oxlint-disable-next-line no-underscore-dangle -- the only link from the TLS socket to the one seen at `connection`
    const raw = (socket as unknown as { _parent?: Socket })._parent;
    const address = socket.remoteAddress ?? (raw === undefined ? undefined : addresses.get(raw)) ?? "unknown";
    events.handshakeFailed(name, failureOf(error), address, error.code ?? error.message);
  });
  return server;
}

const failures: readonly (readonly [RegExp, HandshakeFailure])[] = [
  [/HANDSHAKE_TIMEOUT/, "timeout"],
  [/ECONNRESET|EPIPE/, "reset"],
  [/ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERTIFICATE)|CERTIFICATE_UNKNOWN/, "peer-distrusts-us"],
  [/NO_SHARED_CIPHER|NO_SUITABLE_KEY_SHARE|NO_SUITABLE_SIGNATURE|NO_SHARED_SIGNATURE/, "cipher"],
  [/PROTOCOL|VERSION|HTTP_REQUEST|HTTPS_PROXY|UNEXPECTED_MESSAGE|RECORD|LENGTH|DECODE/, "protocol"],
];

function failureOf(error: NodeJS.ErrnoException): HandshakeFailure {
  const text = `${error.code ?? ""} ${error.message}`;
  return failures.find(([pattern]) => pattern.test(text))?.[1] ?? "other";
}

function listen(server: HttpServer | HttpsServer, { name, address }: ListenerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "another program has it" : error.message;
      reject(
        new AppError(
          "conflict",
          `The ${name} listener cannot have ${address.host}:${address.port}: ${why}; change listen.${name}`,
          { cause: error },
        ),
      );
    });
    server.listen({ port: address.port, host: address.host, backlog }, () => resolve());
  });
}

/** New connections are refused at once; begun requests are answered, within limits. */
function stop(server: HttpServer | HttpsServer): Promise<void> {
  return new Promise((resolve) => {
    const sweep = setInterval(() => server.closeIdleConnections(), 25);
    const giveUp = setTimeout(() => server.closeAllConnections(), stopGrace);
    server.close(() => {
      clearInterval(sweep);
      clearTimeout(giveUp);
      resolve();
    });
    server.closeIdleConnections();
  });
}
