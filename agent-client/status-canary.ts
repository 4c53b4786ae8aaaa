/** What the canaries come to now, for `status`: as the agent would, from what is in its state directory. */
import { join } from "node:path";
import { pemEncode } from "@newleaf/shared/pem";
import { proveEnforcement } from "./canary.ts";
import type { AgentConfig, CertificateConfig } from "./config.ts";
import { openCredentials } from "./credentials.ts";
import { type Journal, speakingLeaf } from "./journal.ts";
import { revokedForProxy } from "./sight.ts";
import type { Trust } from "./trust-store.ts";

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

/** Connects as each canary once. Never throws. */
export async function readCanaries(
  config: AgentConfig,
  certificate: CertificateConfig,
  { journal, trust, now }: { journal: Journal; trust: Trust; now: number },
): Promise<readonly CanaryStatus[]> {
  const probes = certificate.probes.flatMap(({ canary, ...probe }) =>
    canary === undefined ? [] : [{ canary, probe }],
  );
  if (probes.length === 0) return [];
  const leaf = speakingLeaf(journal, now);
  const own = leaf === null ? null : await readOwn(join(config.state, certificate.name), leaf.fingerprint);
  return Promise.all(
    probes.map(async ({ canary, probe }) => {
      const seen = await proveEnforcement(probe, canary, {
        http: probe.http ?? null,
        own,
        roots: trust.roots.map((der) => pemEncode("CERTIFICATE", der)),
        isRevoked: revokedForProxy(journal.told, trust.crls),
        now,
        tries: { count: 1, everyMs: 0 },
      });
      const { good, revoked, failure, warnings } = seen;
      return { address: probe.connect, good, revoked, problem: failure?.detail ?? null, warnings };
    }),
  );
}

/** A line for people; null where there are no canaries. */
export function canaryLine(canaries: readonly CanaryStatus[]): string | null {
  if (canaries.length === 0) return null;
  const problems = canaries.flatMap(({ problem }) => problem ?? []);
  if (problems.length > 0) return `NOT ENFORCED: ${problems.join("; ")}`;
  const warnings = canaries.flatMap((canary) => canary.warnings);
  if (warnings.length > 0) return `not proved: ${warnings.join("; ")}`;
  const proved = [
    ...(canaries.some(({ good }) => good === true) ? ["the good client is let in"] : []),
    ...(canaries.some(({ revoked }) => revoked === true) ? ["the revoked one is turned away"] : []),
  ];
  return proved.join(", ");
}

async function readOwn(directory: string, fingerprint: string): Promise<{ cert: string; key: string } | null> {
  try {
    return (await (await openCredentials(directory)).readLeaf(fingerprint)).pem;
  } catch {
    // Then the canary says that there is none.
    return null;
  }
}
