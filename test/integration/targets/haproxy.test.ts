import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../support/programs.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget, type TargetRow, type TargetServer } from "../../support/target.ts";

const haproxy = {
  target: "HAProxy",
  version: versionOf(["haproxy", "-v"], /version (\d[\d.]*\d)/),
  traffic: "http",
  clientCertificates: true,
  readsCrl: true,
  onBadSet: "keeps-old",
  start: startHaproxy,
} as const;

test(
  "HAProxy takes five new keys by USR2 without a reset connection, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: needs("haproxy"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      ...haproxy,
      how: "USR2, idle-close-on-response",
      settings: (place) => ({ reload: { signal: "USR2", pidFile: pidFile(place), process: "haproxy" } }),
    });
    assertNothingLost(row);
  },
);

test(
  "HAProxy takes five new keys through its Runtime API, which touches no connection, and has the same files on disk",
  { skip: needs("haproxy"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      ...haproxy,
      how: "Runtime API",
      settings: (place) => ({
        reload: { haproxy: { socket: socket(place), reload: { master: masterSocket(place) } } },
      }),
    });
    assertNothingLost(row);
  },
);

function assertNothingLost({ newConnections, kept, webSockets }: TargetRow): void {
  assert.equal(newConnections.failed, 0);
  assert.equal(kept?.resets, 0);
  assert.equal(webSockets?.cut, 0);
}

function startHaproxy(place: Place): Promise<TargetServer> {
  const config = join(place.dir, "haproxy.cfg");
  writeFileSync(config, configuration(place));
  return startTargetServer(place, {
    argv: ["haproxy", "-W", "-S", masterSocket(place), "-f", config, "-p", pidFile(place)],
    pidFile: pidFile(place),
  });
}

const pidFile = (place: Place): string => join(place.dir, "haproxy.pid");
const socket = (place: Place): string => join(place.dir, "admin.sock");
const masterSocket = (place: Place): string => join(place.dir, "master.sock");

function configuration(place: Place): string {
  return `
global
  maxconn 1000
  stats socket ${socket(place)} mode 600 level admin
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 5s
  timeout tunnel 60s
  option idle-close-on-response
frontend tls
  bind 127.0.0.1:${place.port} ssl crt ${place.file("combined.pem")} verify required ca-file ${place.file("ca.pem")} crl-file ${place.file("crl.pem")} no-tls-tickets
  default_backend app
backend app
  server app 127.0.0.1:${place.backendPort}
`;
}
