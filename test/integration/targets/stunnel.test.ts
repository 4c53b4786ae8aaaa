import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../support/programs.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget } from "../../support/target.ts";

test(
  "stunnel takes five new keys by HUP, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: needs("stunnel4"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "stunnel",
      how: "HUP",
      version: versionOf(["stunnel4", "-version"], /stunnel (\S+)/),
      traffic: "http",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "keeps-old",
      // With setuid it starts as root, but reads the files of the next set as that user.
      ...(isRoot ? { owner: "stunnel4" } : {}),
      start: (place) => {
        const config = join(place.dir, "stunnel.conf");
        writeFileSync(config, configuration(place));
        return startTargetServer(place, {
          argv: ["stunnel4", config],
          pidFile: pidFile(place),
          log: () => (existsSync(logFile(place)) ? readFileSync(logFile(place), "utf8") : ""),
        });
      },
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "stunnel4" } }),
    });
    // While it reads its configuration nobody listens: new connections of that moment are refused, kept ones are not touched.
    assert.equal(row.kept?.resets, 0);
    assert.equal(row.webSockets?.cut, 0);
  },
);

const isRoot = process.geteuid?.() === 0;
const pidFile = (place: Place): string => join(place.dir, "stunnel.pid");
const logFile = (place: Place): string => join(place.dir, "stunnel.log");

function configuration(place: Place): string {
  return `
foreground = yes
${isRoot ? "setuid = stunnel4\nsetgid = stunnel4" : ""}
pid = ${pidFile(place)}
output = ${logFile(place)}
debug = 4
[gateway]
accept = 127.0.0.1:${place.port}
connect = 127.0.0.1:${place.backendPort}
cert = ${place.file("combined.pem")}
CAfile = ${place.file("ca.pem")}
CRLfile = ${place.file("crl.pem")}
verifyChain = yes
requireCert = yes
sessionCacheSize = 1
sessionResume = no
`;
}
