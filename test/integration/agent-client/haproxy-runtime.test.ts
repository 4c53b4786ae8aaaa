import assert from "node:assert/strict";
import { test } from "node:test";
import { bySocket } from "../../support/haproxy-gateway.ts";
import { needs } from "../../support/programs.ts";
import { figuresLine, renewUnderTraffic } from "../../support/zero-drop.ts";

test(
  "three renewals through HAProxy's Runtime API pass under traffic without one failed or reset connection",
  { skip: needs("haproxy"), timeout: 120_000 },
  async (t) => {
    const figures = await renewUnderTraffic(bySocket, 3, { newLoops: 2, kept: 30 });
    t.diagnostic(figuresLine("HAProxy, Runtime API", figures));
    const { kept, newConnections, webSockets } = figures.report;
    assert.equal(kept.resets, 0);
    assert.ok(kept.requests > 500, `${kept.requests} requests of kept connections`);
    assert.ok(newConnections.made > 50, `${newConnections.made} new connections`);
    assert.deepEqual(webSockets, { opened: 2, cut: 0 });
  },
);
