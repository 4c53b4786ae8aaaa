/** What the demo tells, as it happens: a line for a person or a JSON object for a program. */
import { printable } from "../output.ts";
import type { Terminal } from "../terminal.ts";

/** Fingerprints are `sha256:…` of the leaf's DER, times ISO 8601. */
export type DemoEvent =
  | { readonly event: "started"; readonly what: string; readonly detail: string }
  | { readonly event: "enrolled"; readonly identity: string; readonly fingerprint: string; readonly notAfter: string }
  | {
      readonly event: "renewed";
      readonly identity: string;
      readonly fingerprint: string;
      readonly previous: string;
      readonly notAfter: string;
    }
  | { readonly event: "reloaded"; readonly gateway: string }
  /** A client has seen it in a handshake that it verified. */
  | {
      readonly event: "served";
      readonly identity: string;
      readonly fingerprint: string;
      readonly requests: number;
      readonly dropped: number;
    }
  /** The agent has seen it served, and said so with the leaf itself: its first use. */
  | { readonly event: "confirmed"; readonly identity: string; readonly fingerprint: string }
  | { readonly event: "passed"; readonly identity: string; readonly fingerprint: string }
  | {
      readonly event: "revoked";
      readonly identity: string;
      readonly fingerprint: string;
      readonly serial: string;
      readonly reason: string;
    }
  | {
      readonly event: "refused";
      readonly identity: string;
      readonly by: "service" | "gateway";
      readonly reason: string;
      readonly afterMs: number;
    }
  | { readonly event: "dropped"; readonly identity: string; readonly reason: string }
  | { readonly event: "failed"; readonly message: string };

export interface Summary {
  /** Renewals of the gateway that were reloaded, served and confirmed. */
  readonly renewals: number;
  /** Fingerprints of the gateway's leaves that were served and confirmed, in order. */
  readonly served: readonly string[];
  readonly revokedRefused: boolean;
  /** Requests of the client that never pauses. */
  readonly requests: number;
  readonly dropped: number;
}

export interface Reporter {
  /** Everything happens in this directory. */
  begin(dir: string): void;
  tell(event: DemoEvent): void;
  finish(summary: Summary): void;
}

export function jsonReporter(terminal: Terminal): Reporter {
  const line = (value: unknown): void => terminal.out(`${JSON.stringify(value)}\n`);
  return {
    begin: () => undefined,
    tell: (event) => line({ at: new Date().toISOString(), ...event }),
    finish: (summary) => line({ summary }),
  };
}

export function humanReporter(terminal: Terminal): Reporter {
  return {
    begin: (dir) =>
      terminal.out(`A service, an agent, a gateway and clients in ${dir}; leaves live 20 s. Ctrl-C ends it.\n\n`),
    tell(event) {
      // A failure goes to stderr as the command's error.
      if (event.event === "failed") return;
      terminal.out(`${clock()}  ${event.event.padEnd(9)}  ${printable(sentence(event))}\n`);
    },
    finish: (summary) => terminal.out(conclusion(summary)),
  };
}

function sentence(event: Exclude<DemoEvent, { event: "failed" }>): string {
  switch (event.event) {
    case "started":
      return `${event.what}: ${event.detail}`;
    case "enrolled":
      return `${event.identity} has its first leaf ${short(event.fingerprint)}, good until ${clock(event.notAfter)}`;
    case "renewed":
      return `${event.identity} ${short(event.previous)} -> ${short(event.fingerprint)}, good until ${clock(event.notAfter)}`;
    case "reloaded":
      return `${event.gateway} took the new files`;
    case "served":
      return `${short(event.fingerprint)} of ${event.identity}, verified in a handshake (${event.requests} requests so far, ${event.dropped} dropped)`;
    case "confirmed":
      return `the agent of ${event.identity} saw ${short(event.fingerprint)} served and reported it: first use`;
    case "passed":
      return `${event.identity} with ${short(event.fingerprint)} is let through by the gateway`;
    case "revoked":
      return `${event.identity} ${short(event.fingerprint)}, serial ${event.serial.slice(0, 8)}…, ${event.reason}`;
    case "refused":
      return `${event.identity} by the ${event.by} after ${(event.afterMs / 1000).toFixed(1)} s: ${event.reason}`;
    case "dropped":
      return `a request of ${event.identity}: ${event.reason}`;
    default:
      return event satisfies never;
  }
}

function conclusion(summary: Summary): string {
  const { renewals, served, revokedRefused, requests, dropped } = summary;
  return `
${renewals} renewals, ${served.length} leaves served one after the other: ${served.map(short).join(", ") || "none"}
${requests} requests, each on a new connection; ${dropped} dropped
${revokedRefused ? "The revoked certificate was refused by the service and by the gateway." : "No revocation went all the way."}
`;
}

/** `sha256:3b7c9f01…` → `3b7c9f01`. */
export function short(fingerprint: string): string {
  return fingerprint.replace("sha256:", "").slice(0, 8);
}

/** Local time of day, as the person's own clock shows it. */
function clock(iso?: string): string {
  const at = iso === undefined ? new Date() : new Date(iso);
  return at.toTimeString().slice(0, 8);
}
