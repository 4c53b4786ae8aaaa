import type { Clock } from "@newleaf/shared/clock";

export const startTlsProtocols = ["postgres", "smtp", "imap", "ldap", "mysql"] as const;
export type StartTls = (typeof startTlsProtocols)[number];

export interface ProbeTarget {
  /** `host:port`, `[v6]:port`. */
  readonly connect: string;
  /** Sent as SNI (not when it is an IP address) and checked by the verifying handshake. */
  readonly serverName: string;
  readonly startTls?: StartTls;
}

export type ProbeAnswer =
  | { readonly fingerprint: string; readonly leaf: Buffer; readonly protocol: string }
  /** `reachable`: somebody accepted the connection, so it is TLS (or the dialogue before it) that failed. */
  | { readonly error: string; readonly reachable: boolean };

/** One handshake over a fresh connection without a session: what does the server present now? Never throws. */
export async function probeOnce(probe: ProbeTarget & { readonly timeoutMs: number }): Promise<ProbeAnswer> {
  return { error: `not written yet ${probe.connect}`, reachable: false };
}

export interface Expectation {
  /** `sha256:…` of the leaf that should be served. */
  readonly expected: string;
  /** `sha256:…` of the leaf served before, to tell `old` from `other`; null when there was none. */
  readonly previous: string | null;
  /** DER of the deployed roots, for the verifying handshake. */
  readonly roots: readonly Buffer[];
  /** Default 15 s. */
  readonly timeoutMs?: number;
  /** When it counts as steady; default 8 handshakes in a row over at least 500 ms, one each 100 ms. */
  readonly steady?: { readonly handshakes: number; readonly overMs: number; readonly everyMs: number };
  readonly signal?: AbortSignal;
}

export interface ProbeVerdict {
  /**
   * `served`: the expected leaf, steadily, and a verifying handshake holds. `unverified`: steadily, but it does not verify
   * (missing intermediate, wrong name …). `old`: healthy, still the previous leaf (or flapping between the two). `other`: some
   * other leaf. `broken`: no handshake.
   */
  readonly outcome: "served" | "old" | "other" | "broken" | "unverified";
  /** `sha256:…` of the leaf seen last; null when none was. */
  readonly fingerprint: string | null;
  /** One line for logs and status. */
  readonly detail: string;
  readonly handshakes: number;
  /** False when nobody accepted a connection: the server is down rather than misconfigured. */
  readonly reachable: boolean;
  /** When it was seen. */
  readonly at: number;
}

/** Polls until the expected leaf is steadily served, or says what is instead. Never throws. */
export async function probeServed(probe: ProbeTarget, expectation: Expectation, clock: Clock): Promise<ProbeVerdict> {
  return {
    outcome: "broken",
    fingerprint: null,
    detail: `not written yet ${probe.connect} ${expectation.expected}`,
    handshakes: 0,
    reachable: false,
    at: clock.now(),
  };
}
