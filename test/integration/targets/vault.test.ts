/** Vault's listener, by a stand-in: HUP reads certificate and key again, and nothing else. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { startStandIn } from "../../support/stand-in.ts";
import { type Place, proveTarget } from "../../support/target.ts";

const pidFile = (place: Place): string => join(place.dir, "vault.pid");

test(
  "Vault (stand-in) takes five new keys by HUP without a reset connection, keeps the old leaf when the set is broken, and starts from the files on disk",
  { timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Vault (stand-in)",
      how: "SIGHUP",
      version: "as 1.21",
      traffic: "http",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "keeps-old",
      start: (place) =>
        startStandIn("vault", place.dir, {
          port: place.port,
          takes: "hup",
          certificate: place.file("fullchain.pem"),
          key: place.file("key.pem"),
          ca: place.file("ca.pem"),
          crl: null,
          watched: "",
        }),
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "vault" } }),
    });
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);
