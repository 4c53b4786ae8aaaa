/** Where a server takes orders. What comes in there can do anything, so it has to be on this host. */
import { isAbsolute } from "node:path";
import { isIP } from "node:net";
import { parseEndpoint } from "../handshake.ts";

export type ControlAddress =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number; readonly isLoopback: boolean };

/**
 * Reads `host:port`, `[v6]:port`, or the path of a Unix socket (Caddy writes it `unix//run/caddy/admin.sock`).
 * @throws Error saying how it is written
 */
export function parseControlAddress(text: string): ControlAddress {
  const path = text.startsWith("unix/") ? text.slice("unix/".length) : text;
  if (isAbsolute(path)) return { socketPath: path };
  const { host, port } = parseEndpoint(text);
  return { host, port, isLoopback: isLoopback(host) };
}

/** RFC 6890 §2.2.2: 127.0.0.0/8 and ::1 never leave the host; RFC 6761 §6.3: nor does localhost. */
function isLoopback(host: string): boolean {
  switch (isIP(host)) {
    case 4:
      return host.startsWith("127.");
    case 6:
      return host === "::1";
    default:
      return host === "localhost";
  }
}
