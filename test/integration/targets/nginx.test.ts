import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { findProgram, needs } from "../../support/programs.ts";
import { startTargetServer, versionOf } from "../../support/target-server.ts";
import { noticesInTime, type Place, proveTarget } from "../../support/target.ts";

test(
  "nginx takes five new keys by HUP, keeps the old leaf when the set is broken, and starts from the files on disk",
  { skip: needs("nginx"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "nginx",
      how: "HUP",
      version: versionOf(["nginx", "-v"], /nginx\/(\S+)/),
      traffic: "http",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "keeps-old",
      start: (place) => {
        const config = join(place.dir, "nginx.conf");
        writeFileSync(config, configuration(place));
        return startTargetServer(place, {
          argv: ["nginx", "-p", place.dir, "-e", join(place.dir, "error.log"), "-c", config],
          pidFile: pidFile(place),
          log: () => readFileSync(join(place.dir, "error.log"), "utf8"),
        });
      },
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "nginx" } }),
      async also(story) {
        await noticesInTime(story);
        const { place } = story;
        assert.doesNotMatch(
          readFileSync(join(place.dir, "error.log"), "utf8"),
          /\[emerg\]/,
          "noticed before nginx heard of it",
        );
        const check = [findProgram("nginx") ?? "", "-t", "-q", "-c", join(place.dir, "nginx.conf")] as const;
        execFileSync(check[0], check.slice(1), { stdio: "pipe" });
      },
    });
    assert.equal(row.newConnections.failed, 0);
    assert.equal(row.webSockets?.cut, 0);
  },
);

const pidFile = (place: Place): string => join(place.dir, "nginx.pid");

function configuration(place: Place): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
daemon off;
worker_processes 1;
${process.geteuid?.() === 0 ? "user root;" : ""}
pid ${pidFile(place)};
error_log ${join(place.dir, "error.log")} info;
events { worker_connections 1024; }
http {
  access_log off;
  ${temporary.map((kind) => `${kind}_temp_path ${join(place.dir, kind)};`).join("\n  ")}
  map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
  server {
    listen 127.0.0.1:${place.port} ssl;
    ssl_certificate ${place.file("fullchain.pem")};
    ssl_certificate_key ${place.file("key.pem")};
    ssl_client_certificate ${place.file("ca.pem")};
    ssl_crl ${place.file("crl.pem")};
    ssl_verify_client on;
    ssl_verify_depth 2;
    ssl_session_cache off;
    ssl_session_tickets off;
    location / {
      proxy_pass http://127.0.0.1:${place.backendPort};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
    }
  }
}
`;
}
