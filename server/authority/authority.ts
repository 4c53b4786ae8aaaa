/** What every use case stands on. Made once by the composition root. */
import type { Clock } from "@newleaf/shared/clock";
import { AppError } from "@newleaf/shared/problems";
import type { ServerConfig } from "../config.ts";
import type { Events } from "../events.ts";
import type { ActorKind, AuditEntry } from "../store/audit.ts";
import type { Role } from "../store/identities.ts";
import { StaleBasis, type Store } from "../store/store.ts";
import type { Allowance } from "./allowance.ts";
import type { Backups } from "./backups.ts";
import type { Connections } from "./revocation/connections.ts";
import type { Feed } from "./feed.ts";
import type { Herd } from "./herd/herd.ts";
import type { IssuerRegistry } from "./issuers.ts";
import type { Presence } from "./revocation/presence.ts";
import type { Sightings } from "./sightings.ts";

export interface Authority {
  readonly config: ServerConfig;
  readonly store: Store;
  readonly clock: Clock;
  /** Cryptographically random bytes. */
  readonly random: (size: number) => Buffer;
  readonly issuers: IssuerRegistry;
  /** Connections by the leaf they were made with. */
  readonly connections: Connections;
  /** Who is there, and which CRL is in force at each. */
  readonly presence: Presence;
  /** Tells held polls that something they wait for changed. */
  readonly feed: Feed;
  readonly events: Events;
  /** What strangers repeat is audited once, then counted. */
  readonly sightings: Sightings;
  /** The lines in front of issuing, limits of requests, and who is paused. */
  readonly herd: Herd;
  /** Certificates within an hour, by lineage. */
  readonly issuances: Allowance;
  readonly backups: Backups;
}

/** Who asks, for the audit log. Use cases fill in what they learn on the way, so that a refusal names it too. */
export interface Caller {
  readonly requestId: string;
  readonly address: string;
  actorKind: ActorKind;
  actor: string;
  /** What the request is about, once known. */
  target?: string;
  /** Of an operator. */
  role?: Role;
}

/** An audit entry of this caller. */
export function auditEntry(
  caller: Caller,
  at: number,
  action: string,
  target: string,
  detail?: Readonly<Record<string, unknown>>,
): AuditEntry {
  return {
    at,
    actorKind: caller.actorKind,
    actor: caller.actor,
    action,
    target,
    requestId: caller.requestId,
    address: caller.address,
    ...(detail === undefined ? {} : { detail }),
  };
}

/** The caller of what the service does by itself. */
export function systemCaller(requestId: string): Caller {
  return { requestId, address: "local", actorKind: "system", actor: "system" };
}

const decisionAttempts = 5;

/**
 * Runs a use case again from fresh reads when its basis moved before the commit. Nothing was written by the failed attempt.
 * @throws AppError `conflict` when it keeps moving
 */
export async function onFreshBasis<T>(decideAndRecord: () => Promise<T>): Promise<T> {
  for (let attempt = 1; attempt <= decisionAttempts; attempt++) {
    try {
      return await decideAndRecord();
    } catch (error) {
      if (!(error instanceof StaleBasis)) throw error;
    }
  }
  throw new AppError("conflict", "The state kept changing while this was decided; try again", { retryAfterSeconds: 1 });
}
