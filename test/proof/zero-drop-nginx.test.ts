/** Ten renewals under full traffic: what visitors notice, and the figures of docs/performance.md. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { startNginx } from "../support/nginx.ts";
import { needs } from "../support/programs.ts";
import { figuresLine, renewUnderTraffic, type StartGateway } from "../support/zero-drop.ts";

const byHup: StartGateway = async ({ dir, current, backendPort }) => {
  const nginx = await startNginx({
    dir,
    certificate: join(current, "fullchain.pem"),
    key: join(current, "key.pem"),
    clientCa: join(current, "ca.pem"),
    crl: join(current, "crl.pem"),
    upstream: `http://127.0.0.1:${backendPort}`,
  });
  const reload = { signal: "HUP", pidFile: nginx.pidFile, process: "nginx" };
  return { port: nginx.port, reload, stop: nginx.stop };
};

// Below 1.27.4 nginx has no keepalive_min_timeout: how many kept connections it resets is told, not judged.
test("nginx, HUP: ten renewals lose no new connection", { skip: needs("nginx"), timeout: 240_000 }, async (t) => {
  const figures = await renewUnderTraffic(byHup, 10);
  t.diagnostic(figuresLine("nginx, HUP", figures));
  assert.deepEqual(figures.report.webSockets, { opened: 2, cut: 0 });
  assert.ok(figures.report.kept.requests > 10_000, `${figures.report.kept.requests} requests of kept connections`);
  assert.ok(figures.report.newConnections.made > 200, `${figures.report.newConnections.made} new connections`);
});
