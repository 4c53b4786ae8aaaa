/** Looking at a target with handshakes of one's own: what it presents, for how long it fails, whom it lets in. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { probeOnce } from "../../agent-client/probe/probe.ts";
import { credentials, type Host } from "./agent-client.ts";
import type { TestService } from "./service.ts";
import { visit } from "./steady-load.ts";
import type { Place, TargetSpec } from "./target.ts";
import type { Traffic } from "./traffic.ts";

export const targetName = "gateway.claw.internal";

/** Fingerprint of the leaf that a fresh handshake shows; null when there is none. */
export async function presented(spec: TargetSpec, { port }: Place): Promise<string | null> {
  const probe = { connect: `127.0.0.1:${port}`, serverName: targetName, timeoutMs: 2000 };
  const answer = await probeOnce(spec.startTls === undefined ? probe : { ...probe, startTls: spec.startTls });
  return "fingerprint" in answer ? answer.fingerprint : null;
}

/** One handshake after the other until stopped. */
export function watchHandshakes(spec: TargetSpec, place: Place) {
  const seen = new Set<string>();
  let over = false;
  let down = 0;
  let goodAt = performance.now();
  const watching = (async () => {
    while (!over) {
      const leaf = await presented(spec, place);
      if (leaf === null) down = Math.max(down, performance.now() - goodAt);
      else {
        seen.add(leaf);
        goodAt = performance.now();
      }
      await sleep(20);
    }
  })();
  const stop = async () => {
    over = true;
    await watching;
    return { seen: [...seen], downSeconds: down / 1000 };
  };
  return { stop, [Symbol.asyncDispose]: async () => void (await stop()) };
}

/** Handshakes after a dialogue in clear, one after the other. */
export function dialogues(spec: TargetSpec, place: Place): Pick<Traffic, "stop"> {
  const failed: string[] = [];
  const shown = new Map<string, { firstSeenAt: number; lastSeenAt: number }>();
  let made = 0;
  let over = false;
  const running = (async () => {
    while (!over) {
      const begun = Date.now();
      const leaf = await presented(spec, place);
      made += 1;
      if (leaf === null) failed.push(new Date(begun).toISOString());
      else shown.set(leaf, { firstSeenAt: shown.get(leaf)?.firstSeenAt ?? Date.now(), lastSeenAt: begun });
      await sleep(10);
    }
  })();
  return {
    async stop() {
      over = true;
      await running;
      return {
        newConnections: { made, failed },
        kept: { requests: 0, resets: 0, failed: [] },
        webSockets: { opened: 0, cut: 0 },
        presented: [...shown].map(([leaf, times]) => ({ fingerprint: leaf, ...times })),
      };
    },
  };
}

/** Whether the server serves this client now. */
export async function isAdmitted(
  spec: TargetSpec,
  service: TestService,
  { port }: Place,
  client: Host,
): Promise<boolean> {
  const visitor = { ...credentials(client), ca: service.roots };
  if (spec.traffic === "http") {
    const answer = await visit(port, targetName, visitor).catch(() => null);
    return answer?.status === 200;
  }
  // In TLS 1.2 the client hears of its refusal in the handshake already.
  const socket = connect({ host: "127.0.0.1", port, servername: targetName, maxVersion: "TLSv1.2", ...visitor });
  try {
    await once(socket, "secureConnect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
