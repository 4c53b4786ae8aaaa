/** Agents in a few lines, many of them: each holds the change feed open, fetches a new CRL and reports it in force. Real mTLS, kept connections. */
import { Agent, request } from "node:https";
import { readCrl } from "@newleaf/shared/crl";
import { credentials, settled, type Host } from "./agent-client.ts";
import type { TestService } from "./service.ts";

export interface FeedAgent extends AsyncDisposable {
  readonly identity: string;
  readonly host: Host;
  /** From now on it cannot reload: it reports what it had, and why. */
  breakReload(): void;
  /** Ends like a host without power. */
  vanish(): void;
}

interface Changes {
  readonly cursor: string;
  readonly bundleVersion: number;
  readonly crls: Readonly<Record<string, number>>;
}

export async function feedAgents(service: TestService, count: number, prefix = "feed"): Promise<FeedAgent[]> {
  const agents: FeedAgent[] = [];
  // A few at a time: enrolling is not what is tried here.
  for (let start = 0; start < count; start += 20) {
    const some = Array.from({ length: Math.min(20, count - start) }, (_, index) => `${prefix}-${start + index + 1}`);
    agents.push(...(await Promise.all(some.map((identity) => feedAgent(service, identity)))));
  }
  return agents;
}

export async function feedAgent(service: TestService, identity: string): Promise<FeedAgent> {
  const host = await settled(service, identity);
  // One connection for the poll and one for the rest, as the agent has.
  const agent = new Agent({ keepAlive: true, maxSockets: 2, ca: service.roots, ...credentials(host) });
  const stopping = new AbortController();
  let broken = false;
  let inForce: Record<string, number> = {};

  const ask = (method: string, path: string, body?: unknown): Promise<{ status: number; body: Buffer }> =>
    new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = text === undefined ? {} : { "Content-Type": "application/json" };
      const asked = request(
        service.urls.agents + path,
        { method, agent, headers, signal: stopping.signal },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on("data", (part: Buffer) => parts.push(part));
          answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts) }));
          answer.on("error", reject);
        },
      );
      asked.on("error", reject);
      asked.end(text);
    });
  const report = async (bundleVersion: number): Promise<void> => {
    const failure = { step: "reload", message: "nginx -t: unknown directive", at: new Date().toISOString() };
    await ask("POST", "/v1/reports", {
      certificates: [],
      bundleVersion,
      crls: inForce,
      clock: new Date().toISOString(),
      ...(broken ? { failure } : {}),
    });
  };
  const follow = async (): Promise<void> => {
    for (let cursor = ""; !stopping.signal.aborted;) {
      const { status, body } = await ask("GET", `/v1/changes?wait=55s&after=${encodeURIComponent(cursor)}`);
      if (status !== 200 && status !== 204) return;
      if (status === 204) continue;
      const changes = JSON.parse(body.toString()) as Changes;
      const fetched: Record<string, number> = {};
      for (const issuer of Object.keys(changes.crls))
        fetched[issuer] = readCrl((await ask("GET", `/crl/${issuer}.crl`)).body).number;
      if (!broken) inForce = fetched;
      await report(changes.bundleVersion);
      ({ cursor } = changes);
    }
  };
  const running = follow().catch((error: unknown) => {
    if (!stopping.signal.aborted && (error as NodeJS.ErrnoException).code !== "ECONNRESET") throw error;
  });
  const vanish = (): void => {
    stopping.abort();
    agent.destroy();
  };
  return {
    identity,
    host,
    breakReload: () => void (broken = true),
    vanish,
    async [Symbol.asyncDispose]() {
      vanish();
      await running;
    },
  };
}
