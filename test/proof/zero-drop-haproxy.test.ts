/** Ten renewals under full traffic: what visitors notice, and the figures of docs/performance.md. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { byReload, bySocket } from "../support/haproxy-gateway.ts";
import { needs } from "../support/programs.ts";
import { figuresLine, renewUnderTraffic, type StartGateway } from "../support/zero-drop.ts";

const ways: readonly (readonly [string, StartGateway])[] = [
  ["HAProxy, USR2 with idle-close-on-response", byReload],
  ["HAProxy, Runtime API", bySocket],
];
for (const [name, start] of ways) {
  test(
    `${name}: ten renewals lose no new and no kept connection`,
    { skip: needs("haproxy"), timeout: 240_000 },
    async (t) => {
      const figures = await renewUnderTraffic(start, 10);
      t.diagnostic(figuresLine(name, figures));
      assert.equal(figures.report.kept.resets, 0);
      assert.deepEqual(figures.report.webSockets, { opened: 2, cut: 0 });
      assert.ok(figures.report.kept.requests > 10_000, `${figures.report.kept.requests} requests of kept connections`);
      assert.ok(figures.report.newConnections.made > 200, `${figures.report.newConnections.made} new connections`);
    },
  );
}
