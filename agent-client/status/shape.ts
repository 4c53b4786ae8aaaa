/** What `newleaf-agent status --json` says. */
import type { RetryKind } from "../journal.ts";
import type { ProofStatus } from "./proofs.ts";

export type ServedState = "served" | "not-served" | "not-probed" | "unreachable";

/** Times are ISO 8601. The shape is for scripts: fields are added, never renamed. */
export interface CertificateStatus {
  readonly name: string;
  readonly state:
    | "ok"
    | "installing"
    /** Clients are told of the next certificate, and have time until the switch. */
    | "announced"
    /** A set was taken back; the one before is in service. */
    | "taken-back"
    | "not-served"
    /** The service says no, and goes on saying no until an operator acts. */
    | "refused"
    | "expired"
    | "not-enrolled"
    | "waiting"
    | "failing";
  readonly identity: string | null;
  readonly serial: string | null;
  readonly fingerprint: string | null;
  readonly lineage: string | null;
  readonly generation: number | null;
  readonly notBefore: string | null;
  readonly notAfter: string | null;
  /** The journal's step. */
  readonly step: string;
  readonly installed: {
    readonly fingerprint: string;
    readonly version: string;
    readonly problems: readonly string[];
  } | null;
  readonly served: {
    readonly state: ServedState;
    readonly seen: readonly {
      readonly address: string;
      readonly fingerprint: string | null;
      readonly error: string | null;
    }[];
    readonly lastProvedAt: string | null;
  };
  /** Whether the proxy enforces: one for each probe that has canaries. */
  readonly canaries: ProofStatus["canaries"];
  /** What the server answers over HTTP: one for each probe that asks. */
  readonly health: ProofStatus["health"];
  readonly reload: string;
  readonly next: { readonly action: string; readonly at: string | null };
  /** The next leaf, while clients are told of it. `at` null: the command of beforeSwitch has not succeeded yet. */
  readonly announced: {
    readonly fingerprint: string;
    readonly at: string | null;
    readonly switchesAt: string;
  } | null;
  readonly quarantine: {
    /** The row of the roll-back table. */
    readonly row: string;
    readonly since: string;
    readonly detail: string;
    readonly retryAt: string;
  } | null;
  readonly failures: readonly {
    readonly work: RetryKind;
    readonly step: string;
    readonly code: string;
    readonly message: string;
    readonly at: string;
    readonly retryAt: string;
    readonly failures: number;
    readonly advice: string | null;
  }[];
}

export interface AgentStatus {
  /** Who holds the lock; null when no agent runs. */
  readonly running: string | null;
  readonly clock: string;
  readonly bundleVersion: number;
  /** The roots in the system's own store; null when agent.yml does not ask for it. */
  readonly systemTrust: {
    readonly directory: string;
    /** False until the command has taken in what the bundle holds, as far as the agent knows. */
    readonly done: boolean;
    readonly failure: { readonly message: string; readonly at: string; readonly retryAt: string } | null;
  } | null;
  readonly crls: readonly { readonly issuer: string; readonly number: number; readonly nextUpdate: string }[];
  readonly certificates: readonly CertificateStatus[];
}
