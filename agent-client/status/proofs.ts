/** What probes ask beyond handshakes, for `status`: canaries and health, as the agent would ask, from its state directory. */
import { join } from "node:path";
import { pemEncode } from "@newleaf/shared/pem";
import { proveEnforcement } from "../probe/canary.ts";
import type { AgentConfig, CertificateConfig } from "../config/config.ts";
import { openCredentials } from "../credentials.ts";
import type { ClientCredential } from "../probe/handshake.ts";
import { healthProblem } from "../probe/health.ts";
import { speakingLeaf } from "../decide/leaves.ts";
import type { Journal } from "../journal.ts";
import { revokedForProxy } from "../sight.ts";
import type { Trust } from "../trust/trust-store.ts";

/** One for each probe that has canaries. The shape is for scripts: fields are added, never renamed. */
export interface CanaryStatus {
  readonly address: string;
  /** True: let in, as it should be. Null: there is none, or it proves nothing. */
  readonly good: boolean | null;
  /** True: turned away, as it should be. */
  readonly revoked: boolean | null;
  /** What is wrong with the proxy; null when nothing is. */
  readonly problem: string | null;
  /** Why something is not proved, and what to do. */
  readonly warnings: readonly string[];
}

/** One for each probe that asks for health. */
export interface HealthStatus {
  readonly address: string;
  /** What came instead of a healthy answer; null when it is healthy. */
  readonly problem: string | null;
}

export interface ProofStatus {
  readonly health: readonly HealthStatus[];
  readonly canaries: readonly CanaryStatus[];
}

interface Known {
  readonly journal: Journal;
  readonly trust: Trust;
  readonly now: number;
}

/** Connects as each canary, and asks for health, once. Never throws. */
export async function readProofs(
  config: AgentConfig,
  certificate: CertificateConfig,
  known: Known,
): Promise<ProofStatus> {
  const asks = certificate.probes.some(({ http, canary }) => http !== undefined || canary !== undefined);
  if (!asks) return { health: [], canaries: [] };
  const leaf = speakingLeaf(known.journal, known.now);
  const own = leaf === null ? null : await readOwn(join(config.state, certificate.name), leaf.fingerprint);
  const roots = known.trust.roots.map((der) => pemEncode("CERTIFICATE", der));
  const [health, canaries] = await Promise.all([
    readHealth(certificate, own, roots),
    readCanaries(certificate, known, own, roots),
  ]);
  return { health, canaries };
}

/** A revoked client gets in, or a good one does not. */
export function isNotEnforced({ canaries }: Pick<ProofStatus, "canaries">): boolean {
  return canaries.some(({ good, revoked }) => good === false || revoked === false);
}

function readHealth(
  { probes }: CertificateConfig,
  client: ClientCredential | null,
  roots: readonly string[],
): Promise<readonly HealthStatus[]> {
  const asked = probes.flatMap(({ http, ...probe }) => (http === undefined ? [] : [{ http, probe }]));
  return Promise.all(
    asked.map(async ({ http, probe }) => ({
      address: probe.connect,
      problem: await healthProblem(probe, http, { client, roots, tries: 1 }),
    })),
  );
}

async function readCanaries(
  certificate: CertificateConfig,
  { journal, trust, now }: Known,
  own: ClientCredential | null,
  roots: readonly string[],
): Promise<readonly CanaryStatus[]> {
  const probes = certificate.probes.flatMap(({ canary, ...probe }) =>
    canary === undefined ? [] : [{ canary, probe }],
  );
  return Promise.all(
    probes.map(async ({ canary, probe }) => {
      const seen = await proveEnforcement(probe, canary, {
        http: probe.http ?? null,
        own,
        roots,
        isRevoked: revokedForProxy(journal.told, trust.crls),
        now,
        tries: { count: 1, everyMs: 0 },
      });
      const { good, revoked, failure, warnings } = seen;
      return { address: probe.connect, good, revoked, problem: failure?.detail ?? null, warnings };
    }),
  );
}

/** A line for people; null where nobody asks for health. */
export function healthLine(health: readonly HealthStatus[]): string | null {
  if (health.length === 0) return null;
  const problems = health.flatMap(({ problem }) => problem ?? []);
  return problems.length === 0 ? "good" : `NO: ${problems.join("; ")}`;
}

/** A line for people; null where there are no canaries. */
export function canaryLine(canaries: readonly CanaryStatus[]): string | null {
  if (canaries.length === 0) return null;
  const wrong = canaries.filter((one) => isNotEnforced({ canaries: [one] }));
  if (wrong.length > 0) return `NOT ENFORCED: ${wrong.flatMap(({ problem }) => problem ?? []).join("; ")}`;
  // A server that is down, or ill, is no server that lets the wrong ones in.
  const warnings = canaries.flatMap((one) => (one.problem === null ? one.warnings : [one.problem]));
  if (warnings.length > 0) return `not proved: ${warnings.join("; ")}`;
  const proved = [
    ...(canaries.some(({ good }) => good === true) ? ["the good client is let in"] : []),
    ...(canaries.some(({ revoked }) => revoked === true) ? ["the revoked one is turned away"] : []),
  ];
  return proved.join(", ");
}

async function readOwn(directory: string, fingerprint: string): Promise<ClientCredential | null> {
  try {
    return (await (await openCredentials(directory)).readLeaf(fingerprint)).pem;
  } catch {
    // Then the canary says that there is none.
    return null;
  }
}
