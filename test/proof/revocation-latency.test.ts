/** From `cert revoke`, as an operator's call of the admin API, to a proxy that refuses the client; its agent holds the change feed open. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runInBackground, type TestHost, until } from "../support/agent.ts";
import { credentials, settled } from "../support/agent-client.ts";
import { bySocket } from "../support/haproxy-gateway.ts";
import { byHup } from "../support/nginx-gateway.ts";
import { needs } from "../support/programs.ts";
import type { TestService } from "../support/service.ts";
import { visit, type Visitor } from "../support/steady-load.ts";
import { gatewayName, type GatewayServer, type StartGateway, withGateway } from "../support/zero-drop.ts";

const runs = 50;
const aimP99Ms = 3000;
const giveUpMs = 15_000;
/** Old and new workers answer in turn for a while after a reload: refused means refused from then on. */
const steadyMs = 500;
/** What the agent tells of on the way, in order. */
const events = ["crl-accepted", "installed", "reload", "served"] as const;

for (const [name, program, start] of [
  ["nginx", "nginx", byHup],
  ["HAProxy", "haproxy", bySocket],
] as const satisfies readonly (readonly [string, string, StartGateway])[]) {
  test(
    `${name} refuses a revoked client within three seconds, 99 times in 100`,
    { skip: needs(program), timeout: 290_000 },
    async (t) => {
      const took: number[] = [];
      const steps = new Map<string, number[]>(events.map((event) => [event, []]));
      await withGateway(start, async ({ service, host, server }) => {
        const good = { ...credentials(await settled(service, "client-good")), ca: service.roots };
        await using app = await host.open();
        await using running = runInBackground(app);
        const [agent] = app.agents;
        assert.ok(agent);
        const isQuiet = (): boolean => agent.journal.state.step === "idle" && agent.view.feedAlive;
        for (let run = 1; run <= runs; run += 1) {
          const client = await settled(service, `client-${run}`);
          const thief = { ...credentials(client), ca: service.roots };
          await until("the agent rests", isQuiet);
          // The feed is asked again at most once a second; revocations come at any moment of that.
          await sleep(400 + 1000 * Math.random());
          assert.equal((await visit(server.port, gatewayName, thief)).status, 200, "not revoked yet");
          const from = host.lines.length;
          const { begun, refusedAt } = await revoke(service, server, client.answer.serial, thief);
          took.push(refusedAt - begun);
          await until("the agent has proven it", () => timeOf(host, from, "served") !== null);
          for (const event of events) {
            const at = timeOf(host, from, event);
            if (at !== null) steps.get(event)?.push(at - begun);
          }
          assert.equal((await visit(server.port, gatewayName, good)).status, 200, "others still pass");
        }
        await running[Symbol.asyncDispose]();
      });
      t.diagnostic(`${name}, revoked → refused: ${distribution(took)}`);
      for (const [event, times] of steps) t.diagnostic(`${name}, revoked → ${event}: ${distribution(times)}`);
      assert.equal(took.length, runs);
      assert.ok(percentile(took, 99) < aimP99Ms, distribution(took));
    },
  );
}

/** Revokes, and asks as the client until it was refused for a while. */
async function revoke(service: TestService, server: GatewayServer, serial: string, thief: Visitor) {
  const begun = Date.now();
  const call = service.admin("POST", "/v1/revocations", { serial, reason: "keyCompromise" });
  let refusedAt: number | null = null;
  while (refusedAt === null || Date.now() - refusedAt < steadyMs) {
    const isIn = await visit(server.port, gatewayName, thief).then(
      ({ status }) => status === 200,
      () => false,
    );
    if (isIn) refusedAt = null;
    else refusedAt ??= Date.now();
    if (Date.now() - begun > giveUpMs) throw new Error(`the client still passes after ${giveUpMs} ms`);
    await sleep(5);
  }
  await call;
  return { begun, refusedAt };
}

function timeOf(host: TestHost, from: number, event: string): number | null {
  const line = host.lines.slice(from).findLast((text) => text.split(" ")[2] === event);
  return line === undefined ? null : Date.parse(line.split(" ")[0] ?? "");
}

function distribution(times: readonly number[]): string {
  const figures = [50, 90, 99].map((at) => `p${at} ${percentile(times, at)}`);
  return `${[...figures, `max ${Math.max(...times)}`].join(", ")} ms of ${times.length}`;
}

function percentile(times: readonly number[], at: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((at / 100) * sorted.length) - 1)] ?? Number.NaN;
}
