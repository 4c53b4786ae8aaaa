import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../support/programs.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget } from "../../support/target.ts";

test(
  "Hitch takes five new keys by HUP, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: needs("hitch"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Hitch",
      how: "HUP",
      version: versionOf(["hitch", "--version"], /hitch (\S+)/),
      traffic: "http",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "keeps-old",
      start: (place) => {
        const config = join(place.dir, "hitch.conf");
        writeFileSync(config, configuration(place));
        return startTargetServer(place, {
          argv: ["hitch", `--config=${config}`, `--pidfile=${pidFile(place)}`],
          pidFile: pidFile(place),
        });
      },
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "hitch" } }),
    });
    assert.equal(row.seconds.length, 5);
  },
);

const pidFile = (place: Place): string => join(place.dir, "hitch.pid");

function configuration(place: Place): string {
  return `
frontend = "[127.0.0.1]:${place.port}"
backend = "[127.0.0.1]:${place.backendPort}"
pem-file = "${place.file("combined.pem")}"
client-verify = required
client-verify-ca = "${place.file("ca.pem")}"
${process.geteuid?.() === 0 ? 'user = "nobody"' : ""}
workers = 1
tls-protos = TLSv1.2 TLSv1.3
`;
}
