import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { accepts, freePort, startDaemon } from "./processes.ts";
import { findProgram } from "./programs.ts";

export interface HaproxyOptions {
  /** A directory of its own for configuration and pid file. */
  readonly dir: string;
  /** Path of key, leaf and intermediates in one file. */
  readonly combined: string;
  /** With it: `verify required`, against these CAs. */
  readonly clientCa?: string;
  readonly crl?: string;
}

export interface Haproxy {
  readonly port: number;
  /** Of the master. */
  readonly pidFile: string;
  readonly config: string;
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
  const verify = options.clientCa === undefined ? "" : ` verify required ca-file ${options.clientCa}`;
  const crl = options.crl === undefined ? "" : ` crl-file ${options.crl}`;
  const lines = [
    "global",
    "  maxconn 200",
    "  stats timeout 5s",
    "defaults",
    "  mode http",
    "  timeout client 10s",
    "  timeout server 10s",
    "  timeout connect 5s",
    "frontend tls",
    `  bind 127.0.0.1:${port} ssl crt ${options.combined}${verify}${crl} no-tls-tickets`,
    '  http-request return status 200 content-type text/plain string "ok"',
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const daemon = startDaemon(program, ["-W", "-f", config, "-p", pidFile]);
  if (!(await accepts(port, daemon)) || !(await hasPid(pidFile))) {
    await daemon.stop();
    throw new Error(`haproxy did not start: ${daemon.output()}`);
  }
  return { port, pidFile, config, stop: () => daemon.stop(), output: () => daemon.output() };
}

async function hasPid(pidFile: string): Promise<boolean> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (existsSync(pidFile) && readFileSync(pidFile, "utf8").trim() !== "") return true;
    await sleep(10);
  }
  return false;
}
