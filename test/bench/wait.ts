/**
 * How long `cert revoke --wait` takes for 1, 50 and 500 connected agents, each holding the change feed open, fetching the CRL and reporting
 * it in force. Service, agents and command share one process, which is to the disadvantage of all of them. `bin/node test/bench/wait.ts`
 */
import { settled } from "../support/agent-client.ts";
import { feedAgents, type FeedAgent } from "../support/feed-agents.ts";
import { startService } from "../support/service.ts";
import { newleaf } from "../support/terminal.ts";

const sizes = [1, 50, 500];
const rounds = 7;

await using service = await startService();
// Enrolling five hundred hosts from one address in seconds is not what is tried here.
const hurry = setInterval(() => service.clock.advance(30_000), 50);
const victims = await Promise.all(
  Array.from({ length: sizes.length * rounds }, (_, index) => settled(service, `victim-${index}`)),
);
const agents: FeedAgent[] = [];
for (const size of sizes) {
  agents.push(...(await feedAgents(service, size - agents.length, `host-of-${size}`)));
  if (size === sizes.at(-1)) clearInterval(hurry);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const took: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const { serial } = victims.pop()?.answer ?? { serial: "" };
    const begun = performance.now();
    const argv = ["cert", "revoke", "--serial", serial, "--wait", "30s", "--yes", "--json", "--data", service.dataDir];
    const done = await newleaf(argv);
    took.push(performance.now() - begun);
    const { confirmations } = JSON.parse(done.out) as { confirmations: { connected: number; confirmed: number }[] };
    const [{ connected, confirmed } = { connected: 0, confirmed: 0 }] = confirmations;
    if (done.code !== 0 || connected !== size || confirmed !== size)
      throw new Error(`${size} agents, ${connected} connected, ${confirmed} confirmed: ${done.err}`);
  }
  const sorted = took.toSorted((a, b) => a - b).map((ms) => Math.round(ms));
  process.stdout.write(
    `${size} agents: p50 ${sorted[Math.floor(rounds / 2)]} ms, least ${sorted[0]} ms, most ${sorted.at(-1)} ms\n`,
  );
}
for (const agent of agents) await agent[Symbol.asyncDispose]();
