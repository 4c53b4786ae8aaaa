import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { canConnect } from "../../support/processes.ts";
import { findProgram, needs } from "../../support/programs.ts";
import { hasPid, versionOf } from "../../support/target-server.ts";
import { noticesInTime, type Place, proveTarget, type TargetServer } from "../../support/target.ts";

test(
  "Apache takes five new keys by USR1, is started again when a broken set ended it, and starts from the files on disk",
  { skip: needs("apache2"), timeout: 120_000 },
  async () => {
    const row = await proveTarget({
      target: "Apache httpd",
      how: "USR1 (graceful)",
      version: versionOf(["apache2", "-v"], /Apache\/(\S+)/),
      traffic: "http",
      clientCertificates: true,
      readsCrl: true,
      onBadSet: "breaks",
      start: startApache,
      settings: (place) => ({
        reload: { signal: "USR1", pidFile: pidFile(place), process: "apache2" },
        start: startCommand(place),
      }),
      async also(story) {
        await noticesInTime(story);
        const { place } = story;
        assert.doesNotMatch(readFileSync(errorLog(place), "utf8"), /AH02565/, "noticed before Apache heard of it");
      },
    });
    assert.equal(row.newConnections.failed, 0);
    assert.equal(row.webSockets?.cut, 0);
  },
);

const pidFile = (place: Place): string => join(place.dir, "apache.pid");
const errorLog = (place: Place): string => join(place.dir, "error.log");

/** As `apachectl start` does it: it goes to the background, and whoever starts it again does the same. */
function startCommand(place: Place): readonly string[] {
  return [findProgram("apache2") ?? "apache2", "-f", join(place.dir, "apache.conf"), "-k", "start"];
}

async function startApache(place: Place): Promise<TargetServer> {
  writeFileSync(join(place.dir, "apache.conf"), configuration(place));
  mkdirSync(join(place.dir, "run"), { recursive: true });
  const log = (): string => (existsSync(errorLog(place)) ? readFileSync(errorLog(place), "utf8") : "");
  const [program = "", ...args] = startCommand(place);
  execFileSync(program, args, { stdio: "pipe" });
  for (let tries = 0; !(await canConnect(place.port)); tries += 1) {
    if (tries > 200) throw new Error(`Apache did not start: ${log()}`);
    await sleep(20);
  }
  assert.ok(await hasPid(pidFile(place)));
  return { stop: () => stopApache(place), log };
}

/** Whoever the pid file names now: the agent may have started another one. */
async function stopApache(place: Place): Promise<void> {
  if (!existsSync(pidFile(place))) return;
  const pid = Number(readFileSync(pidFile(place), "utf8"));
  for (let tries = 0; signalled(pid, tries > 100 ? "SIGKILL" : "SIGTERM"); tries += 1) await sleep(50);
}

/** False when there is no such process any more. */
function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

function configuration(place: Place): string {
  const modules = ["mpm_event", "authz_core", "ssl", "proxy", "proxy_http", "socache_shmcb"];
  const load = (name: string): string => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`;
  return `
ServerRoot ${place.dir}
ServerName gateway.claw.internal
DefaultRuntimeDir ${join(place.dir, "run")}
PidFile ${pidFile(place)}
ErrorLog ${errorLog(place)}
LogLevel notice ssl:warn
${modules.map(load).join("\n")}
${process.geteuid?.() === 0 ? "User www-data\nGroup www-data" : ""}
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 384
KeepAlive On
MaxKeepAliveRequests 0
SSLSessionCache none
KeepAliveTimeout 10
Listen 127.0.0.1:${place.port} https
<VirtualHost 127.0.0.1:${place.port}>
  SSLEngine on
  SSLCertificateFile ${place.file("fullchain.pem")}
  SSLCertificateKeyFile ${place.file("key.pem")}
  SSLVerifyClient require
  SSLVerifyDepth 2
  SSLCACertificateFile ${place.file("ca.pem")}
  SSLCARevocationFile ${place.file("crl.pem")}
  SSLCARevocationCheck chain
  SSLSessionTickets off
  ProxyPass / http://127.0.0.1:${place.backendPort}/ upgrade=websocket
</VirtualHost>
`;
}
