/** Traefik's way of taking certificates, by a stand-in: it watches its dynamic configuration only, and reads the files named there with it. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { stringify } from "yaml";
import { startStandIn } from "../../support/stand-in.ts";
import { type Place, proveTarget } from "../../support/target.ts";

const dynamic = (place: Place): string => join(place.dir, "dynamic.yml");

test(
  "Traefik (stand-in) takes five new keys when its dynamic file is touched, gets the old pair back when the set is broken, and starts from the files on disk",
  { timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Traefik (stand-in)",
      how: "touch of the dynamic file",
      version: "as 3",
      traffic: "http",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "breaks",
      start(place) {
        const pair = { certFile: place.file("fullchain.pem"), keyFile: place.file("key.pem") };
        writeFileSync(dynamic(place), stringify({ tls: { certificates: [pair] } }));
        return startStandIn("traefik", place.dir, {
          port: place.port,
          takes: "dynamic-file",
          certificate: place.file("fullchain.pem"),
          key: place.file("key.pem"),
          ca: place.file("ca.pem"),
          crl: null,
          watched: dynamic(place),
        });
      },
      settings: (place) => ({ reload: { touch: dynamic(place) } }),
    });
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);
