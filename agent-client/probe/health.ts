/** `probe.http`: a served certificate is of no use in front of a server that answers nothing but errors. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientCredential, ProbeTarget } from "./handshake.ts";
import { type HttpQuestion, type Visit, visit } from "./visit.ts";

export interface HttpCheck extends HttpQuestion {
  /** Any of them is health. */
  readonly status: readonly number[];
}

const tries = 3;
const everyMs = 500;
const timeoutMs = 5000;

/**
 * One GET over a fresh verified connection, as the client `client` (a listener that demands certificates would answer nobody
 * else); tried again for a second, because servers start slowly. Never throws.
 *
 * @param options.roots PEM of the roots to verify the server with
 * @returns null when the status is one of those wanted, else what came instead in one line
 */
export async function healthProblem(
  probe: ProbeTarget,
  http: HttpCheck,
  options: {
    readonly client: ClientCredential | null;
    readonly roots: readonly string[];
    readonly signal?: AbortSignal | undefined;
    readonly tries?: number;
  },
): Promise<string | null> {
  const { client, roots, signal } = options;
  for (let tried = 1; ; tried += 1) {
    const seen = await visit(probe, { client, ca: roots, http, graceMs: 0, timeoutMs, signal });
    if (seen.kind === "answered" && http.status.includes(seen.status)) return null;
    if (tried >= (options.tries ?? tries) || signal?.aborted === true)
      return `unhealthy: GET ${http.path} of ${http.host ?? probe.serverName} at ${probe.connect}: ${tell(seen, http)}`;
    await sleep(everyMs);
  }
}

function tell(seen: Visit, { status }: HttpCheck): string {
  switch (seen.kind) {
    case "answered":
      return `HTTP ${seen.status}${seen.title === null ? "" : ` (${seen.title})`}, not ${status.join(" or ")}`;
    case "open":
      return "no answer";
    case "refused":
      return `${seen.why}${seen.alert ? " (the server refuses the agent's own leaf as a client)" : ""}`;
    case "failed":
      return seen.why;
  }
}
