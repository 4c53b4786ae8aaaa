import assert from "node:assert/strict";
import { chownSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../support/programs.ts";
import { accountOf, startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget } from "../../support/target.ts";

const account = accountOf("caddy");

test(
  "Caddy takes five new keys by its admin API, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: needs("caddy"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Caddy",
      how: "admin API, forced",
      version: versionOf(["caddy", "version"], /v?(\d[\d.]*\d)/),
      traffic: "http",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "keeps-old",
      ...(account === undefined ? {} : { owner: account.uid }),
      start: (place) => {
        if (account !== undefined) chownSync(place.dir, account.uid, account.gid);
        writeFileSync(join(place.dir, "Caddyfile"), configuration(place));
        return startTargetServer(place, {
          // It saves the last configuration in its home.
          argv: ["env", `XDG_CONFIG_HOME=${place.dir}`, "caddy", "run", "--config", join(place.dir, "Caddyfile")],
          ...(account === undefined ? {} : { account }),
        });
      },
      settings: (place) => ({ reload: { caddy: { admin: adminSocket(place) } } }),
    });
    // Caddy 2.6 resets a connection now and then that was accepted as the old configuration ends, and cuts WebSockets.
    assert.ok(row.newConnections.failed <= 5, `${row.newConnections.failed} of ${row.newConnections.made}`);
    assert.ok((row.webSockets?.opened ?? 0) > 0);
  },
);

const adminSocket = (place: Place): string => join(place.dir, "admin.sock");

function configuration(place: Place): string {
  return `{
	admin unix/${adminSocket(place)}
	auto_https off
	storage file_system ${join(place.dir, "storage")}
}
https://gateway.claw.internal:${place.port} {
	bind 127.0.0.1
	tls ${place.file("fullchain.pem")} ${place.file("key.pem")} {
		client_auth {
			mode require_and_verify
			trusted_ca_cert_file ${place.file("ca.pem")}
		}
	}
	reverse_proxy 127.0.0.1:${place.backendPort}
}
`;
}
