/** The agent's metrics, written by hand: a few gauges and a counter need no library on every host. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { CanaryVerdict } from "./probe/canary.ts";
import type { Address, CertificateConfig } from "./config/config.ts";
import { newestLeaf } from "./decide/leaves.ts";
import type { HeldLeaf, Journal } from "./journal.ts";
import type { Trust } from "./trust/trust-store.ts";

/** What an attempt came to. */
export const outcomes = [
  "issued",
  "served",
  "refused",
  "unreachable",
  "pending",
  "check-failed",
  "not-served",
  "rolled-back",
  "failed",
] as const;
export type Outcome = (typeof outcomes)[number];

export interface CertificateMetrics {
  readonly name: string;
  /** Milliseconds; null while there is no leaf. */
  readonly notAfter: number | null;
  /** What is presented is what is installed, and that is the newest leaf held. */
  readonly servedMatches: boolean;
  readonly reloadPending: boolean;
  /** Of the installed CRL that ends first; null without CRLs. */
  readonly crlNextUpdate: number | null;
  /** The proxy treats the canary as it should; null when there is none or it proves nothing. */
  readonly canary: { readonly good: boolean | null; readonly revoked: boolean | null };
  readonly attempts: Readonly<Partial<Record<Outcome, number>>>;
}

/** What one certificate's journal, the trust held and the last canaries come to. */
export function metricsOf(
  config: CertificateConfig,
  journal: Journal,
  trust: Trust,
  seen: { readonly attempts: CertificateMetrics["attempts"]; readonly canaries: readonly CanaryVerdict[] },
): CertificateMetrics {
  const { served, notServed, told, quarantine } = journal;
  const newest = newestLeaf(journal);
  const due = dueLeaf(config, journal);
  const ends = [...trust.crls.values()].map((crl) => crl.nextUpdate);
  return {
    name: config.name,
    notAfter: newest?.notAfter ?? null,
    servedMatches:
      notServed === null && due !== null && served?.fingerprint === (quarantine === null ? due : newest)?.fingerprint,
    reloadPending: notServed !== null || (due !== null && told?.fingerprint !== due.fingerprint),
    crlNextUpdate: ends.length === 0 || !config.target.files.includes("crl.pem") ? null : Math.min(...ends),
    canary: {
      good: worst(seen.canaries.map((canary) => canary.good)),
      revoked: worst(seen.canaries.map((canary) => canary.revoked)),
    },
    attempts: seen.attempts,
  };
}

/** The newest leaf, unless the proxy is not to have it yet: it was taken back, or is being announced to those who pin leaves. */
function dueLeaf({ beforeSwitch }: CertificateConfig, { current, next, quarantine, served }: Journal): HeldLeaf | null {
  if (next === null || current === null || served?.fingerprint !== current.fingerprint) return next ?? current;
  const waits = quarantine?.leaf === next.fingerprint || (beforeSwitch !== null && quarantine === null);
  return waits ? current : next;
}

/** Of several probes: false when one is false, null when none knows. */
function worst(values: readonly (boolean | null)[]): boolean | null {
  return values.includes(false) ? false : values.includes(true) ? true : null;
}

/** Prometheus text exposition format 0.0.4. */
export function renderMetrics(certificates: readonly CertificateMetrics[]): string {
  const gauge = (name: string, help: string, value: (item: CertificateMetrics) => number | null): string =>
    family(
      name,
      "gauge",
      help,
      certificates.flatMap((item) => sample(name, { certificate: item.name }, value(item))),
    );
  const seconds = (ms: number | null): number | null => (ms === null ? null : ms / 1000);
  const attempts = "newleaf_agent_attempts_total";
  const counts = certificates.flatMap((item) =>
    outcomes.flatMap((outcome) => sample(attempts, { certificate: item.name, outcome }, item.attempts[outcome] ?? 0)),
  );
  const canaryName = "newleaf_agent_canary";
  const canaries = certificates.flatMap((item) =>
    (["good", "revoked"] as const).flatMap((client) => {
      const holds = item.canary[client];
      return sample(canaryName, { certificate: item.name, client }, holds === null ? null : holds ? 1 : 0);
    }),
  );
  return [
    gauge("newleaf_agent_not_after_timestamp_seconds", "When the newest leaf held expires.", (item) =>
      seconds(item.notAfter),
    ),
    gauge("newleaf_agent_served_matches", "1 when the newest leaf was seen served.", (item) =>
      item.servedMatches ? 1 : 0,
    ),
    gauge("newleaf_agent_reload_pending", "1 when files are installed that are not seen served.", (item) =>
      item.reloadPending ? 1 : 0,
    ),
    family(attempts, "counter", "Attempts by what they came to.", counts),
    gauge("newleaf_agent_crl_next_update_timestamp_seconds", "nextUpdate of the CRL held that ends first.", (item) =>
      seconds(item.crlNextUpdate),
    ),
    family(canaryName, "gauge", "1 when the good client is let in, and the revoked one turned away.", canaries),
  ].join("");
}

/** Serves `/metrics` over plain HTTP. @throws the system error when the address is taken */
export async function serveMetrics(
  address: Address,
  collect: () => readonly CertificateMetrics[],
): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url?.split("?")[0] !== "/metrics") {
      response.writeHead(404, { "content-type": "text/plain; charset=utf-8" }).end("see /metrics\n");
      return;
    }
    response
      .writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" })
      .end(renderMetrics(collect()));
  });
  server.requestTimeout = 10_000;
  server.maxConnections = 16;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(address.port, address.host, resolve);
  await promise;
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}

function family(name: string, type: "gauge" | "counter", help: string, samples: readonly string[]): string {
  return samples.length === 0 ? "" : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.join("")}`;
}

function sample(name: string, labels: Readonly<Record<string, string>>, value: number | null): readonly string[] {
  if (value === null) return [];
  const list = Object.entries(labels).map(([label, text]) => `${label}="${text.replaceAll(/[\\"\n]/g, "")}"`);
  return [`${name}{${list.join(",")}} ${value}\n`];
}
