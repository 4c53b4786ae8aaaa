/** Where a server takes orders. What comes in there can do anything, so it has to be on this host. */
import { stat } from "node:fs/promises";
import { dirname, isAbsolute } from "node:path";
import { isIP } from "node:net";
import { parseEndpoint } from "../probe/handshake.ts";

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

/**
 * A directory into which, or in the place of which, any user of this host may put something: who listens on a socket there may be
 * anybody. Null when there is none.
 */
export async function openToAll(socketPath: string): Promise<string | null> {
  const trusted = [0, process.geteuid?.()];
  for (let at = dirname(socketPath), isOuter = false; ; at = dirname(at), isOuter = true) {
    const { mode, uid } = await stat(at);
    // Further up it matters whose the next one is: what is root's in /tmp nobody else replaces.
    if ((mode & 0o002) !== 0 && !isOuter) return at;
    if (at === dirname(at)) return null;
    const above = await stat(dirname(at));
    const isKept = (above.mode & 0o1000) !== 0 && trusted.includes(uid);
    if ((above.mode & 0o002) !== 0 && !isKept) return dirname(at);
  }
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
