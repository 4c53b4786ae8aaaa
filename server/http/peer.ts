/** Who is at the other end of a connection, read from TLS once and kept with the socket. */
import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import type { Peer } from "../authority/gate.ts";

/** Dates are judged by the gate at every request; TLS judged them only at the handshake. */
const dateErrors: ReadonlySet<string> = new Set(["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"]);
const peers = new WeakMap<TLSSocket, Peer | null>();

/** Null when no certificate was presented. */
export function peerOf(request: IncomingMessage): Peer | null {
  return peerOfSocket(request.socket);
}

/** The same, before anything was asked. */
export function peerOfSocket(socket: unknown): Peer | null {
  if (!(socket instanceof TLSSocket)) return null;
  const known = peers.get(socket);
  if (known !== undefined) return known;
  const peer = readPeer(socket);
  peers.set(socket, peer);
  return peer;
}

function readPeer(socket: TLSSocket): Peer | null {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  // Node's type says Error; it is the OpenSSL code as text.
  const problem = socket.authorizationError as unknown as string | Error | null | undefined;
  const code = problem instanceof Error ? ((problem as NodeJS.ErrnoException).code ?? problem.message) : problem;
  return {
    certificate,
    serial: normaliseSerial(certificate.serialNumber),
    verified: socket.authorized || (code != null && dateErrors.has(code)),
  };
}
