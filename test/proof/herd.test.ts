/** A hundred thousand hosts that come back at once, on a virtual clock, with the service's own line and the agent's own back-off. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalLimits } from "../../server/authority/herd/admission.ts";
import { type HerdClient, runHerd } from "../support/herd-model.ts";

const hour = 3_600_000;
const day = 24 * hour;
const size = 100_000;
/** What a handshake and a renewal cost here (docs/performance.md). */
const costs = { handshakeMs: 0.9, renewMs: 1.1, maxConnections: 1_024 };

function herd(within: number, random: () => number): HerdClient[] {
  return Array.from({ length: size }, (_, index) => {
    const draw = random();
    const left =
      draw < 0.01
        ? (0.3 + 0.7 * random()) * hour
        : draw < 0.05
          ? hour + random() * 23 * hour
          : (1 + 6 * random()) * day;
    return { who: `host-${index}`, left, due: true, arrives: random() * within };
  });
}

function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

test("within an hour nobody waits for longer than a second", () => {
  const random = generator(1);
  const outcome = runHerd({ ...costs, limits: renewalLimits, clients: herd(hour, random), random });
  assert.equal(outcome.served.length, size);
  assert.equal(outcome.turnedAway + outcome.refusedConnections, 0);
  assert.ok(Math.max(...outcome.served.map(({ client, at }) => at - client.arrives)) < 1_000);
});

test("within ten seconds nobody is lost, and whoever has less than a day left is in when he is first let in", () => {
  const random = generator(2);
  const outcome = runHerd({ ...costs, limits: renewalLimits, clients: herd(10_000, random), random });
  assert.equal(outcome.lost.length, 0);
  assert.equal(outcome.served.length, size);
  assert.equal(outcome.outOfOrder, 0);
  const urgent = outcome.served.filter(({ client }) => client.left < day);
  assert.ok(urgent.length > 4_000);
  assert.deepEqual([...new Set(urgent.map(({ attempts }) => attempts))], [1]);
  assert.ok(Math.max(...urgent.map(({ inLineMs }) => inLineMs)) < 1_000, "in the line");
});
