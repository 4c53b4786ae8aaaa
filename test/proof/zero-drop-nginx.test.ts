/** Ten renewals under full traffic: what visitors notice, and the figures of docs/performance.md. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { byHup } from "../support/nginx-gateway.ts";
import { needs } from "../support/programs.ts";
import { figuresLine, renewUnderTraffic } from "../support/zero-drop.ts";

// Below 1.27.4 nginx has no keepalive_min_timeout: how many kept connections it resets is told, not judged.
test("nginx, HUP: ten renewals lose no new connection", { skip: needs("nginx"), timeout: 240_000 }, async (t) => {
  const figures = await renewUnderTraffic(byHup, 10);
  t.diagnostic(figuresLine("nginx, HUP", figures));
  assert.deepEqual(figures.report.webSockets, { opened: 2, cut: 0 });
  assert.ok(figures.report.kept.requests > 10_000, `${figures.report.kept.requests} requests of kept connections`);
  assert.ok(figures.report.newConnections.made > 200, `${figures.report.newConnections.made} new connections`);
});
