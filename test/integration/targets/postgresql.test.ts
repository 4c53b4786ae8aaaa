import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { proveEnforcement } from "../../../agent-client/probe/canary.ts";
import { until } from "../../support/agent.ts";
import { credentials, enrolled } from "../../support/agent-client.ts";
import { findProgram, needs } from "../../support/programs.ts";
import { accountOf, startTargetServer, versionOf } from "../../support/target-server.ts";
import { type Place, proveTarget, type TargetStory, targetName } from "../../support/target.ts";

/** PostgreSQL refuses to run as root. */
const account = accountOf("postgres");

test(
  "PostgreSQL takes five new keys by HUP, keeps the old leaf when the set is broken, refuses a revoked client, and starts from the files on disk",
  { skip: needs("postgres", "initdb", "psql"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "PostgreSQL",
      how: "HUP",
      version: versionOf(["postgres", "--version"], /\) (\S+)/),
      traffic: "handshake",
      clientCertificates: true,
      startTls: "postgres",
      onBadSet: "keeps-old",
      ...(account === undefined ? {} : { owner: account.uid }),
      start: (place) => {
        const data = dataOf(place);
        const isNew = mkdirSync(data, { recursive: true, mode: 0o700 }) !== undefined;
        if (account !== undefined) chownSync(data, account.uid, account.gid);
        if (isNew) initialize(place);
        return startTargetServer(place, {
          argv: ["postgres", "-D", data],
          pidFile: pidFile(place),
          ...(account === undefined ? {} : { account }),
        });
      },
      settings: (place) => ({ reload: { signal: "HUP", pidFile: pidFile(place), process: "postgres" } }),
      also: refusesTheRevoked,
    });
    assert.equal(row.newConnections.failed, 0);
  },
);

const dataOf = (place: Place): string => join(place.dir, "data");
const pidFile = (place: Place): string => join(dataOf(place), "postmaster.pid");

function initialize(place: Place): void {
  const data = dataOf(place);
  const argv = ["-D", data, "-U", "newleaf", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8"];
  execFileSync(findProgram("initdb") ?? "initdb", argv, { stdio: "pipe", ...account, cwd: place.dir });
  appendFileSync(
    join(data, "postgresql.conf"),
    `
listen_addresses = '127.0.0.1'
port = ${place.port}
unix_socket_directories = ''
fsync = off
ssl = on
ssl_cert_file = '${place.file("fullchain.pem")}'
ssl_key_file = '${place.file("key.pem")}'
ssl_ca_file = '${place.file("ca.pem")}'
ssl_crl_file = '${place.file("crl.pem")}'
`,
  );
  // Who holds a certificate of our CA is in, as the user that the line says.
  writeFileSync(join(data, "pg_hba.conf"), "hostssl all newleaf 127.0.0.1/32 trust clientcert=verify-ca\n");
}

/** psql is the judge: full verification, a client certificate, and the CRL that PostgreSQL has loaded. */
async function refusesTheRevoked({ service, place }: TargetStory): Promise<void> {
  const client = await enrolled(service, "reporting");
  const { cert, key } = credentials(client);
  const [certFile, keyFile, rootFile] = ["client.crt", "client.key", "root.crt"].map((name) => join(place.dir, name));
  writeFileSync(certFile ?? "", cert);
  writeFileSync(keyFile ?? "", key, { mode: 0o600 });
  chmodSync(keyFile ?? "", 0o600);
  writeFileSync(rootFile ?? "", service.roots);
  const ask = (host: string): string => {
    const where = `host=${host} hostaddr=127.0.0.1 port=${place.port} user=newleaf dbname=postgres connect_timeout=5`;
    const tls = `sslmode=verify-full sslrootcert=${rootFile} sslcert=${certFile} sslkey=${keyFile}`;
    const argv = ["-X", "-A", "-t", "-c", "select ssl, pg_reload_conf() from pg_stat_ssl where pid = pg_backend_pid()"];
    try {
      return execFileSync(findProgram("psql") ?? "psql", [...argv, `${where} ${tls}`], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
      });
    } catch (error) {
      return String((error as { stderr?: unknown }).stderr);
    }
  };
  assert.equal(ask(targetName).trim(), "t|t");
  assert.match(ask("another.claw.internal"), /does not match host name/);
  const revoked = { serial: client.answer.serial, reason: "keyCompromise" };
  await service.admin("POST", "/v1/revocations", revoked);
  await until("PostgreSQL refuses the revoked client", () => /certificate revoked/.test(ask(targetName)), 15_000);
  assert.match(readFileSync(pidFile(place), "utf8"), /^\d+\n/);

  const canary = await proveEnforcement(
    { connect: `127.0.0.1:${place.port}`, serverName: targetName, startTls: "postgres" },
    { good: "own", revoked: { certificate: certFile ?? "", key: keyFile ?? "" }, accept: [] },
    {
      http: null,
      own: credentials(await enrolled(service, "good-canary")),
      roots: [service.roots],
      isRevoked: (serial) => serial === client.answer.serial,
      now: Date.now(),
    },
  );
  assert.deepEqual(canary, { good: true, revoked: true, failure: null, warnings: [] });
}
