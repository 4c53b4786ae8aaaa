/** OpenClaw's way of taking certificates, by a stand-in: it watches its files, never has to be told, and must never be signalled. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startStandIn, type StandIn } from "../../support/stand-in.ts";
import { proveTarget } from "../../support/target.ts";

test(
  "OpenClaw (stand-in) takes five new keys by watching its files without a reset connection, keeps the old leaf when the set is broken, and starts from the files on disk",
  { timeout: 120_000 },
  async () => {
    const gateways: StandIn[] = [];
    const row = await proveTarget({
      target: "OpenClaw (stand-in)",
      how: "watches its files",
      version: "as 2026.9.6",
      traffic: "http",
      clientCertificates: false,
      onBadSet: "keeps-old",
      async start({ dir, port, file }) {
        const gateway = await startStandIn("openclaw", dir, {
          port,
          takes: "watch-files",
          certificate: file("fullchain.pem"),
          key: file("key.pem"),
          ca: null,
          crl: null,
          watched: "",
        });
        gateways.push(gateway);
        return gateway;
      },
      settings: () => ({ reload: "watch" }),
      async also() {
        assert.ok(gateways[0]?.isRunning(), "never signalled");
      },
    });
    const [first] = gateways;
    assert.match(first?.log() ?? "", /renewal failed; keeping accepted material/);
    assert.equal(row.newConnections.failed, 0);
    assert.deepEqual([row.kept?.resets, row.webSockets?.cut], [0, 0]);
  },
);
