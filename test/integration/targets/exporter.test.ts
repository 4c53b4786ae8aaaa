import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { test } from "node:test";
import { stringify } from "yaml";
import { credentials, enrolled } from "../../support/agent-client.ts";
import { needs } from "../../support/programs.ts";
import { accountOf, startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget, type TargetStory, targetName } from "../../support/target.ts";

const program = "prometheus-node-exporter";
const account = accountOf("prometheus");

test(
  "node_exporter reads five new keys at its handshakes, is mended when a broken set shut everybody out, and starts from the files on disk",
  { skip: needs(program), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "node_exporter",
      how: "reads at each handshake",
      version: versionOf([program, "--version"], /version (\S+)/),
      traffic: "handshake",
      clientCertificates: true,
      readsCrl: false,
      onBadSet: "breaks",
      ...(account === undefined ? {} : { owner: account.uid }),
      start: (place) => {
        const config = join(place.dir, "web.yml");
        writeFileSync(config, configuration(place));
        const argv = [program, "--collector.disable-defaults", "--collector.time", `--web.config.file=${config}`];
        return startTargetServer(place, {
          argv: [...argv, `--web.listen-address=127.0.0.1:${place.port}`],
          ...(account === undefined ? {} : { account }),
        });
      },
      settings: () => ({ reload: "watch" }),
      also: wantsClientCertificates,
    });
    // Between two files of a set it may read one of the old and one of the new: a few handshakes in hundreds of renewals.
    assert.ok(row.newConnections.failed <= 5, `${row.newConnections.failed} of ${row.newConnections.made}`);
  },
);

function configuration(place: Place): string {
  return stringify({
    tls_server_config: {
      cert_file: place.file("fullchain.pem"),
      key_file: place.file("key.pem"),
      client_auth_type: "RequireAndVerifyClientCert",
      client_ca_file: place.file("ca.pem"),
    },
  });
}

async function wantsClientCertificates({ service, place }: TargetStory): Promise<void> {
  const scrape = (client: { cert: string; key: string } | undefined): Promise<number | string> =>
    new Promise((resolve) => {
      const where = { host: "127.0.0.1", port: place.port, servername: targetName, path: "/metrics", agent: false };
      const asked = request({ ...where, ca: service.roots, ...client }, (answer) => {
        answer.resume().once("end", () => resolve(answer.statusCode ?? 0));
      });
      asked.once("error", (error) => resolve(error.message));
      asked.end();
    });
  assert.equal(await scrape(credentials(await enrolled(service, "prometheus"))), 200);
  assert.match(String(await scrape(undefined)), /certificate required|bad certificate|ECONNRESET|hang up/);
}
