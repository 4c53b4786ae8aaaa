import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findProgram, needs } from "../../support/programs.ts";
import { accountOf, startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget, targetName } from "../../support/target.ts";

const account = accountOf("redis");

test(
  "Redis takes five new keys by CONFIG SET, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: needs("redis-server", "redis-cli"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Redis",
      how: "CONFIG SET over TLS",
      version: versionOf(["redis-server", "--version"], /v=(\S+)/),
      traffic: "handshake",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "keeps-old",
      ...(account === undefined ? {} : { owner: account.uid }),
      start: (place) => {
        const config = join(place.dir, "redis.conf");
        writeFileSync(config, configuration(place));
        writeFileSync(passwordFile(place), 'a pass "word" with\ttraps\n', { mode: 0o600 });
        if (account !== undefined) {
          chownSync(config, account.uid, account.gid);
          chownSync(place.dir, account.uid, account.gid);
        }
        chmodSync(config, 0o600);
        const argv = ["redis-server", config];
        return startTargetServer(place, { argv, ...(account === undefined ? {} : { account }) });
      },
      settings: (place) => ({
        reload: {
          redis: {
            // There is no plain port: the agent comes in by the door that it keeps.
            connect: `127.0.0.1:${place.port}`,
            user: "newleaf",
            passwordFile: passwordFile(place),
            tls: { serverName: targetName },
          },
        },
      }),
      async also({ place, host }) {
        const files = { cert: "fullchain.pem", key: "key.pem", cacert: "ca.pem" } as const;
        const tls = Object.entries(files).flatMap(([name, file]) => [`--${name}`, place.file(file as "key.pem")]);
        const argv = ["-h", "127.0.0.1", "-p", String(place.port), "--tls", "--sni", targetName, ...tls, "PING"];
        // The default user is off; that it says so is an answer of Redis behind a verified handshake with a client certificate.
        assert.match(execFileSync(findProgram("redis-cli") ?? "", argv, { encoding: "utf8" }), /NOAUTH/);
        const said = host.lines.join("") + readFileSync(join(host.state, "gateway", "journal.json"), "utf8");
        assert.doesNotMatch(said, /traps/, "the password is in no log");
      },
    });
    assert.equal(row.newConnections.failed, 0);
  },
);

const passwordFile = (place: Place): string => join(place.dir, "newleaf.password");

function configuration(place: Place): string {
  return `
port 0
tls-port ${place.port}
bind 127.0.0.1
dir ${place.dir}
save ""
tls-cert-file ${place.file("fullchain.pem")}
tls-key-file ${place.file("key.pem")}
tls-ca-cert-file ${place.file("ca.pem")}
tls-auth-clients yes
user default off
user newleaf on ">a pass \\"word\\" with\\ttraps" -@all +config|get +config|set
`;
}
