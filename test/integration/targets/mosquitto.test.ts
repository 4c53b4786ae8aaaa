import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../support/programs.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget } from "../../support/target.ts";

test(
  "Mosquitto takes five new keys by HUP, is mended when a broken set shut everybody out, and starts from the files on disk",
  { skip: needs("mosquitto"), timeout: 120_000 },
  async () => {
    const isRoot = process.geteuid?.() === 0;
    const row = await proveTarget({
      target: "Mosquitto",
      how: "HUP",
      version: versionOf(["mosquitto", "-h"], /mosquitto version (\S+)/),
      traffic: "handshake",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "breaks",
      // Reads the files again after it has dropped root.
      ...(isRoot ? { owner: "mosquitto" } : {}),
      start: (place) => {
        const config = join(place.dir, "mosquitto.conf");
        writeFileSync(config, configuration(place, isRoot));
        return startTargetServer(place, { argv: ["mosquitto", "-c", config], pidFile: pidFile(place) });
      },
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "mosquitto" } }),
    });
    assert.equal(row.newConnections.failed, 0);
  },
);

const pidFile = (place: Place): string => join(place.dir, "mosquitto.pid");

function configuration(place: Place, isRoot: boolean): string {
  return `
${isRoot ? "user mosquitto" : ""}
pid_file ${pidFile(place)}
listener ${place.port} 127.0.0.1
allow_anonymous true
certfile ${place.file("fullchain.pem")}
keyfile ${place.file("key.pem")}
cafile ${place.file("ca.pem")}
crlfile ${place.file("crl.pem")}
require_certificate true
`;
}
