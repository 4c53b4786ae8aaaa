import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { accepts, canConnect, freePort, startDaemon } from "./processes.ts";
import { findProgram } from "./programs.ts";

export interface HaproxyOptions {
  /** A directory of its own for configuration and pid file. */
  readonly dir: string;
  /** Path of key, leaf and intermediates in one file. */
  readonly combined: string;
  /** With it: `verify required`, against these CAs. */
  readonly clientCa?: string;
  readonly crl?: string;
  /** With it: a `stats socket` of this level and the master's socket. */
  readonly sockets?: "admin" | "user";
  /** A port of 127.0.0.1 to pass requests to; default: HAProxy answers 200 by itself. */
  readonly backendPort?: number;
  /** `option idle-close-on-response`: a reload resets no kept connection. */
  readonly closesIdleLate?: boolean;
  /** Sessions may be resumed by ticket. */
  readonly tickets?: boolean;
  /** More `crt` files of the same bind line. */
  readonly alsoServes?: readonly string[];
  /** Nothing newer than TLS 1.2. */
  readonly onlyTls12?: boolean;
}

export interface Haproxy {
  readonly port: number;
  /** Of the master. */
  readonly pidFile: string;
  readonly config: string;
  /** Where the Runtime API and the master's CLI are, with `sockets`. */
  readonly socket: string;
  readonly masterSocket: string;
  stop(): Promise<void>;
  /** What it wrote so far. */
  output(): string;
}

/** Starts a private HAProxy, master and worker, on 127.0.0.1; it answers 200 by itself. */
export async function startHaproxy(options: HaproxyOptions): Promise<Haproxy> {
  const program = findProgram("haproxy");
  if (program === null) throw new Error("haproxy is not installed");
  mkdirSync(options.dir, { recursive: true });
  const port = await freePort();
  const config = join(options.dir, "haproxy.cfg");
  const pidFile = join(options.dir, "haproxy.pid");
  const [socket, masterSocket] = [join(options.dir, "admin.sock"), join(options.dir, "master.sock")];
  writeFileSync(config, configuration(options, port, socket));
  const master = options.sockets === undefined ? [] : ["-S", masterSocket];
  const daemon = startDaemon(program, ["-W", ...master, "-f", config, "-p", pidFile]);
  const isUp = (await accepts(port, daemon)) && (await hasPid(pidFile));
  if (!isUp || (options.sockets !== undefined && !(await canTalkTo(masterSocket)))) {
    await daemon.stop();
    throw new Error(`haproxy did not start: ${daemon.output()}`);
  }
  return { port, pidFile, config, socket, masterSocket, stop: () => daemon.stop(), output: () => daemon.output() };
}

function configuration(options: HaproxyOptions, port: number, socket: string): string {
  const verify = options.clientCa === undefined ? "" : ` verify required ca-file ${options.clientCa}`;
  const crl = options.crl === undefined ? "" : ` crl-file ${options.crl}`;
  const protocol = options.onlyTls12 === true ? " force-tlsv12" : "";
  const tickets = options.tickets === true ? "" : " no-tls-tickets";
  const certificates = [options.combined, ...(options.alsoServes ?? [])].map((path) => `crt ${path}`).join(" ");
  const lines = [
    "global",
    "  maxconn 2000",
    "  stats timeout 5s",
    ...(options.sockets === undefined ? [] : [`  stats socket ${socket} mode 600 level ${options.sockets}`]),
    "defaults",
    "  mode http",
    "  timeout client 10s",
    "  timeout server 10s",
    "  timeout connect 5s",
    "  timeout tunnel 60s",
    ...(options.closesIdleLate === true ? ["  option idle-close-on-response"] : []),
    "frontend tls",
    `  bind 127.0.0.1:${port} ssl ${certificates}${verify}${crl}${tickets}${protocol}`,
    ...(options.backendPort === undefined
      ? ['  http-request return status 200 content-type text/plain string "ok"']
      : ["  default_backend app", "backend app", `  server app 127.0.0.1:${options.backendPort}`]),
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

/** The master listens on its own socket a little later than the worker on its port. */
async function canTalkTo(socket: string): Promise<boolean> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await canConnect(socket)) return true;
    await sleep(10);
  }
  return false;
}
