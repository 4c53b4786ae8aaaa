import { execFileSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Account, accepts, type Daemon, freePort, startDaemon } from "./processes.ts";
import { findProgram } from "./programs.ts";

export interface NginxOptions {
  /** A directory of its own for configuration, pid file and logs. */
  readonly dir: string;
  /** Paths, as nginx gets them. */
  readonly certificate: string;
  readonly key: string;
  /** With it: `ssl_verify_client`, against these CAs. */
  readonly clientCa?: string;
  readonly crl?: string;
  /** Default `on`. */
  readonly verifyClient?: "on" | "optional" | "optional_no_ca";
  /** `http://127.0.0.1:…` to pass requests to; default: nginx answers 200 `ok` itself. */
  readonly upstream?: string;
  /** Default: TLSv1.2 and TLSv1.3. */
  readonly protocols?: readonly ("TLSv1.2" | "TLSv1.3")[];
  /** Master and workers run as this user (and the tests as root); `dir` becomes its own. */
  readonly as?: Account;
  /** Default: a free one. */
  readonly port?: number;
  /** More directives for the server block. */
  readonly directives?: readonly string[];
  /** Further servers on the same port, chosen by SNI. */
  readonly servers?: readonly { readonly name: string; readonly certificate: string; readonly key: string }[];
}

export interface Nginx {
  readonly port: number;
  readonly pidFile: string;
  /** The configuration file, for `nginx -t -c`. */
  readonly config: string;
  /** The master's pid, read now. */
  pid(): number;
  /** Pids of the workers now, those that are shutting down too. */
  workers(): number[];
  /** SIGHUP to the master; returns at once, as the signal does. */
  reload(): void;
  /** `nginx -t` on the files as they are now. */
  check(): { ok: boolean; output: string };
  stop(): Promise<void>;
  /** error_log (level info) so far. */
  errorLog(): string;
}

/** Starts a private nginx on 127.0.0.1, master and one worker, as the current user. Fails with its own words when it does not start. */
export async function startNginx(options: NginxOptions): Promise<Nginx> {
  const program = findProgram("nginx");
  if (program === null) throw new Error("nginx is not installed");
  mkdirSync(options.dir, { recursive: true });
  if (options.as !== undefined) chownSync(options.dir, options.as.uid, options.as.gid);
  const pidFile = join(options.dir, "nginx.pid");
  const config = join(options.dir, "nginx.conf");
  const errorLog = (): string => {
    const path = join(options.dir, "error.log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  };
  // Somebody else may take the port between finding it and using it.
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    writeFileSync(config, configuration(options, port, pidFile));
    const daemon = startDaemon(
      program,
      ["-p", options.dir, "-e", join(options.dir, "error.log"), "-c", config],
      options.as,
    );
    if ((await accepts(port, daemon)) && (await hasPid(pidFile)))
      return handle(daemon, { port, pidFile, config, errorLog });
    await daemon.stop();
    const said = `${daemon.output()}${errorLog()}`;
    if (attempt === 3 || !said.includes("Address already in use")) throw new Error(`nginx did not start: ${said}`);
  }
}

function handle(daemon: Daemon, at: Pick<Nginx, "port" | "pidFile" | "config" | "errorLog">): Nginx {
  const pid = (): number => Number(readFileSync(at.pidFile, "utf8"));
  return {
    ...at,
    pid,
    workers() {
      const master = pid();
      return readFileSync(`/proc/${master}/task/${master}/children`, "utf8")
        .trim()
        .split(" ")
        .filter(Boolean)
        .map(Number);
    },
    reload() {
      process.kill(pid(), "SIGHUP");
    },
    check() {
      try {
        execFileSync(findProgram("nginx") ?? "nginx", ["-t", "-q", "-c", at.config], { stdio: "pipe" });
        return { ok: true, output: "" };
      } catch (error) {
        return { ok: false, output: String(error) };
      }
    },
    stop: () => daemon.stop(),
  };
}

function configuration(options: NginxOptions, port: number, pidFile: string): string {
  const { dir, certificate, key, clientCa, crl, verifyClient = "on", upstream } = options;
  const location =
    upstream === undefined
      ? ["default_type text/plain;", 'return 200 "ok\\n";']
      : [
          `proxy_pass ${upstream};`,
          "proxy_http_version 1.1;",
          "proxy_set_header Upgrade $http_upgrade;",
          "proxy_set_header Connection $connection_upgrade;",
        ];
  const lines = [
    "daemon off;",
    "worker_processes 1;",
    // Temporary directories belong to the worker's user, who could not pass a 0700 directory of root's.
    ...(process.geteuid?.() === 0 && options.as === undefined ? ["user root;"] : []),
    `pid ${pidFile};`,
    `error_log ${join(dir, "error.log")} info;`,
    "events { worker_connections 1024; }",
    "http {",
    "access_log off;",
    // Kept connections to the upstream, except for those that are to become WebSockets.
    "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }",
    ...["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (kind) => `${kind}_temp_path ${join(dir, `${kind}-temp`)};`,
    ),
    "server {",
    `listen 127.0.0.1:${port} ssl;`,
    `ssl_certificate ${certificate};`,
    `ssl_certificate_key ${key};`,
    `ssl_protocols ${(options.protocols ?? ["TLSv1.2", "TLSv1.3"]).join(" ")};`,
    // A resumed session does not look at the CRL again.
    "ssl_session_cache off;",
    "ssl_session_tickets off;",
    ...(clientCa === undefined ? [] : [`ssl_client_certificate ${clientCa};`, `ssl_verify_client ${verifyClient};`]),
    ...(clientCa === undefined ? [] : ["ssl_verify_depth 3;"]),
    ...(crl === undefined ? [] : [`ssl_crl ${crl};`]),
    ...(options.directives ?? []),
    "location / {",
    ...location,
    "}",
    "}",
    ...(options.servers ?? []).flatMap((server) => [
      "server {",
      `listen 127.0.0.1:${port} ssl;`,
      `server_name ${server.name};`,
      `ssl_certificate ${server.certificate};`,
      `ssl_certificate_key ${server.key};`,
      "location / { return 204; }",
      "}",
    ]),
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

async function hasPid(pidFile: string): Promise<boolean> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (existsSync(pidFile) && readFileSync(pidFile, "utf8").trim() !== "") return true;
    await sleep(10);
  }
  return false;
}
