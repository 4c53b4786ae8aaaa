/** Every metric of the service: one object. Names are part of the product; gauges that mirror the store are filled at each scrape. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { TurnedAwayReason } from "./authority/herd/admission.ts";

const requestBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60];
const commitBuckets = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1];

/** All of them are there from the start: what begins to rise at its first scrape has no rate. */
const turnedAwayReasons: Readonly<Record<TurnedAwayReason, 0>> = {
  full: 0,
  "too-long": 0,
  gone: 0,
  paused: 0,
  "too-many-requests": 0,
  "too-many-refusals": 0,
};

export type Metrics = ReturnType<typeof createMetrics>;

/** `fill` runs before each exposition. */
export function createMetrics(version: string) {
  const registry = new Registry();
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []): Gauge<L> =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> =>
    new Counter({ name, help, labelNames, registers: [registry] });
  const metrics = {
    registry,
    ...certificateGauges(gauge),
    ...standingGauges(gauge),
    ...issuerGauges(gauge),
    ...auditGauges(gauge),
    auditCheckpointFailures: counter(
      "newleaf_audit_checkpoint_failures_total",
      "Attempts to write an audit checkpoint off this machine that failed",
      ["target"],
    ),
    issued: counter("newleaf_issued_total", "Leaves issued", ["profile", "kind"]),
    refused: counter("newleaf_refused_total", "Requests refused, by problem code", ["code"]),
    revoked: counter("newleaf_revoked_total", "Leaves revoked", ["reason"]),
    lineageConflicts: counter("newleaf_lineage_conflicts_total", "Sights of two holders of one lineage"),
    staleUses: counter(
      "newleaf_lineage_stale_uses_total",
      "Uses of a superseded leaf more than five minutes after its successor's first use",
    ),
    turnedAway: counter(
      "newleaf_admission_turned_away_total",
      "Requests answered with rate-limited before they were looked at, by reason",
      ["reason"],
    ),
    handshakeFailures: counter(
      "newleaf_tls_handshake_failures_total",
      "Failed handshakes and leaves the gate refused, once for each connection",
      ["listener", "reason"],
    ),
    journalFailing: gauge(
      "newleaf_journal_failing",
      "1 while the journal cannot be written and every write is refused",
    ),
    storeCommit: new Histogram({
      name: "newleaf_store_commit_seconds",
      help: "Time of a commit, fsync included",
      buckets: commitBuckets,
      registers: [registry],
    }),
    requestDuration: new Histogram({
      name: "newleaf_http_request_duration_seconds",
      help: "Time from request to answer",
      labelNames: ["listener", "route", "status"],
      buckets: requestBuckets,
      registers: [registry],
    }),
    ready: gauge("newleaf_ready", "1 when the store can commit and an issuer can sign: what /readyz answers"),
    backupLastSuccess: gauge(
      "newleaf_backup_last_success_timestamp_seconds",
      "When the newest backup was made; before the first one, when the authority was founded or restored",
    ),
    buildInfo: gauge("newleaf_build_info", "Constant 1, labelled with the version", ["version"]),
  };
  for (const [reason, none] of Object.entries(turnedAwayReasons)) metrics.turnedAway.inc({ reason }, none);
  metrics.buildInfo.set({ version }, 1);
  metrics.auditChainOk.set(1);
  return metrics;
}

type MakeGauge = <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Gauge<L>;

function certificateGauges(gauge: MakeGauge) {
  return {
    notAfter: gauge("newleaf_certificate_not_after_timestamp_seconds", "notAfter of the leaf in force", [
      "identity",
      "profile",
    ]),
    expiring: gauge("newleaf_certificates_expiring", "Leaves in force that expire within this time", ["within"]),
    certificates: gauge("newleaf_certificates", "Certificates by state and profile", ["state", "profile"]),
    overdue: gauge("newleaf_renewal_overdue", "Leaves in force past the end of their renewal window"),
    unconfirmed: gauge("newleaf_renewal_unconfirmed", "Leaves released more than 24 hours ago and never used"),
    locked: gauge("newleaf_lineages_locked", "Lineages that wait for an operator"),
    admissionWaiting: gauge("newleaf_admission_waiting", "Requests that wait for their turn to be issued", ["line"]),
    pausedClients: gauge("newleaf_paused_clients", "Leaves and requests answered at once after too many refusals"),
    pendingApprovals: gauge("newleaf_approvals_pending", "Enrollment requests that wait for an operator"),
  };
}

function auditGauges(gauge: MakeGauge) {
  return {
    auditChainOk: gauge(
      "newleaf_audit_chain_ok",
      "0 from when the service found its audit log altered until it is started again",
    ),
    auditCheckpoint: gauge(
      "newleaf_audit_checkpoint_timestamp_seconds",
      "When the newest audit checkpoint that reached this target was made",
      ["target"],
    ),
  };
}

function standingGauges(gauge: MakeGauge) {
  return {
    servedMismatch: gauge("newleaf_served_mismatch", "1 when what a host serves is not its leaf in force", [
      "identity",
    ]),
    lastSeen: gauge("newleaf_agent_last_seen_timestamp_seconds", "Last authenticated request", ["identity"]),
    clockSkew: gauge("newleaf_agent_clock_skew_seconds", "Agent's clock minus the service's", ["identity"]),
  };
}

function issuerGauges(gauge: MakeGauge) {
  return {
    crlThisUpdate: gauge("newleaf_crl_this_update_timestamp_seconds", "thisUpdate of the newest CRL", ["issuer"]),
    crlNextUpdate: gauge("newleaf_crl_next_update_timestamp_seconds", "nextUpdate of the newest CRL", ["issuer"]),
    crlNumber: gauge("newleaf_crl_number", "Number of the newest CRL", ["issuer"]),
    issuerNotAfter: gauge("newleaf_issuer_not_after_timestamp_seconds", "notAfter of a CA certificate", ["issuer"]),
    issuerHorizon: gauge("newleaf_issuer_horizon_timestamp_seconds", "From then on leaves come out short", ["issuer"]),
    rootKeyPresent: gauge("newleaf_root_key_present", "1 while the root's key lies in the data directory"),
  };
}
