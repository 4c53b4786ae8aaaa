import type { X509Certificate } from "node:crypto";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { type StartTls, startTls } from "./start-tls.ts";

/** Where to look, and whom to ask for. */
export interface ProbeTarget {
  /** `host:port`, `[v6]:port`. */
  readonly connect: string;
  /** Sent as SNI (not when it is an IP address) and checked by the verifying handshake. */
  readonly serverName: string;
  readonly startTls?: StartTls;
}

/** What a server showed in one handshake. */
export interface Shown {
  readonly leaf: X509Certificate;
  /** TLSv1.3, TLSv1.2. */
  readonly protocol: string;
  /** Against `ca`, by OpenSSL: why it does not verify, or null when it does. Undefined when the handshake failed before that. */
  readonly distrust: string | null | undefined;
}

/** No handshake. `reachable`: somebody accepted the connection, so it is TLS (or the dialogue before it) that failed. */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
  readonly reachable: boolean;

  constructor(message: string, reachable: boolean) {
    super(message);
    this.reachable = reachable;
  }
}

/** How long the server has to answer our close_notify with its own, after which the connection is reset. */
const lingerMs = 500;

/**
 * One handshake over a fresh connection, TLS 1.2 or 1.3, never resuming a session (a resumed one may hide a new certificate).
 * Works without a client certificate at servers that demand one: in TLS 1.3 the client is done before the server refuses, and in
 * TLS 1.2 the server's certificate came before its refusal.
 *
 * @param ca PEM of the roots to judge by; the handshake goes on whatever the judgement
 * @throws HandshakeError
 */
export function shakeHands(
  probe: ProbeTarget,
  options: { readonly timeoutMs: number; readonly ca?: readonly string[]; readonly signal?: AbortSignal | undefined },
): Promise<Shown> {
  return overSocket(probe, { ...options, wanted: "handshake" }, async (socket) => {
    const shown = await secured(socket, probe.serverName, options.ca);
    setTimeout(() => socket.destroy(), lingerMs).unref();
    return shown;
  });
}

export interface SocketOptions {
  /** For the connection and all that is done over it. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** What is missing when the time is over: `no handshake within 5 s`. */
  readonly wanted: string;
}

/**
 * Connects, speaks the dialogue before TLS if there is one, and hands the socket over. Whoever gets it also closes it; when
 * something is thrown or the time is over (`over` aborts) it is destroyed.
 * @throws HandshakeError
 */
export async function overSocket<Result>(
  probe: ProbeTarget,
  options: SocketOptions,
  use: (socket: Socket, over: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const { host, port } = parseEndpoint(probe.connect);
  const limit = AbortSignal.timeout(Math.ceil(options.timeoutMs));
  const socket = connectTcp({ host, port });
  let reachable = false;
  const whyOver = (): string =>
    limit.aborted ? `no ${options.wanted} within ${Math.ceil(options.timeoutMs) / 1000} s` : "the agent is stopping";
  const stop = (): void => void socket.destroy(new Error(whyOver()));
  const signals = [limit, ...(options.signal === undefined ? [] : [options.signal])];
  const any = AbortSignal.any(signals);
  any.addEventListener("abort", stop, { once: true });
  try {
    if (any.aborted) stop();
    await connected(socket);
    reachable = true;
    if (probe.startTls !== undefined) await startTls(socket, probe.startTls);
    return await use(socket, any);
  } catch (error) {
    socket.destroy();
    throw new HandshakeError(`${probe.connect}: ${any.aborted ? whyOver() : whyNot(error)}`, reachable);
  } finally {
    any.removeEventListener("abort", stop);
  }
}

/** Node repeats the address; the reader has it already. */
function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return (error as NodeJS.ErrnoException).code === "ECONNREFUSED"
    ? "nothing listens there (ECONNREFUSED)"
    : error.message;
}

/**
 * Reads `host:port`, `[v6]:port`.
 * @throws Error saying how it is written
 */
export function parseEndpoint(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  const isAddress = match?.[1] === undefined || isIP(match[1]) === 6;
  if (host === undefined || !isAddress || port < 1 || port > 65_535) {
    throw new Error(`"${text.slice(0, 80)}" is not an address to connect to: write host:port or [v6]:port`);
  }
  return { host, port };
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    // For as long as the socket lives: an error after the handshake must not bring the agent down.
    socket.on("error", reject);
    socket.once("close", () => reject(new Error("the connection was closed")));
  });
}

/** PEM of a client's certificate (with its intermediates) and key. */
export interface ClientCredential {
  readonly cert: string;
  readonly key: string;
}

/** Begins TLS as a client that looks first and judges later: `whyDistrusted` has the judgement once the handshake is over. */
export function beginTls(
  socket: Socket,
  serverName: string,
  options: { readonly ca?: readonly string[] | undefined; readonly client?: ClientCredential | null },
): TLSSocket {
  const { ca, client = null } = options;
  const named: ConnectionOptions = isIP(serverName) === 0 ? { servername: serverName } : { host: serverName };
  return connectTls({
    ...named,
    socket,
    rejectUnauthorized: false,
    minVersion: "TLSv1.2",
    ...(ca === undefined ? {} : { ca: [...ca] }),
    ...(client === null ? {} : { cert: client.cert, key: client.key }),
  });
}

function secured(socket: Socket, serverName: string, ca: readonly string[] | undefined): Promise<Shown> {
  const tls = beginTls(socket, serverName, { ca });
  return new Promise((resolve, reject) => {
    const settle = (shown: Shown): void => {
      // close_notify and FIN rather than a reset: a probe leaves no error in the server's log.
      tls.end();
      tls.resume();
      resolve(shown);
    };
    tls.once("secureConnect", () => {
      const shown = shownBy(tls, whyDistrusted(tls));
      if (shown === null) reject(new Error("the server presented no certificate"));
      else settle(shown);
    });
    const onFailure = (error: Error): void => {
      const shown = shownBy(tls, undefined);
      if (shown === null) reject(error);
      else settle(shown);
    };
    tls.on("error", onFailure);
    tls.once("close", () => onFailure(new Error("the server closed the connection during the handshake")));
  });
}

function shownBy(tls: TLSSocket, distrust: Shown["distrust"]): Shown | null {
  const leaf = tls.getPeerX509Certificate();
  return leaf === undefined ? null : { leaf, protocol: tls.getProtocol() ?? "unknown", distrust };
}

/** OpenSSL's word for why it does not verify, or null when it does. */
export function whyDistrusted(tls: TLSSocket): string | null {
  return tls.authorized ? null : String(tls.authorizationError);
}
