/** A private Caddy on 127.0.0.1, with its admin API on a Unix socket or a port. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, startDaemon, accepts } from "./processes.ts";
import { findProgram } from "./programs.ts";

export interface CaddyOptions {
  /** A directory of its own. */
  readonly dir: string;
  readonly certificate: string;
  readonly key: string;
  /** Default: a Unix socket in `dir`. `port`: a free one. */
  readonly admin?: "port";
  /** It wants an `Origin` from everybody. */
  readonly enforceOrigin?: boolean;
}

export interface Caddy {
  readonly port: number;
  /** As `admin` of agent.yml has it. */
  readonly admin: string;
  readonly caddyfile: string;
  /** A Caddyfile like the running one, but for what `change` does to it. */
  write(name: string, change: (text: string) => string): string;
  stop(): Promise<void>;
  log(): string;
}

export async function startCaddy(options: CaddyOptions): Promise<Caddy> {
  const { dir } = options;
  mkdirSync(dir, { recursive: true });
  const port = await freePort();
  const socket = join(dir, "admin.sock");
  const admin = options.admin === "port" ? `127.0.0.1:${await freePort()}` : `unix/${socket}`;
  // As `caddy fmt` wants it: what differs is a warning.
  const text = `{
	admin ${admin}${options.enforceOrigin === true ? " {\n\t\tenforce_origin\n\t}" : ""}
	auto_https off
	storage file_system ${join(dir, "storage")}
}
https://localhost:${port} {
	bind 127.0.0.1
	tls ${options.certificate} ${options.key}
	respond "first"
}
`;
  const write = (name: string, change: (text: string) => string): string => {
    const path = join(dir, name);
    writeFileSync(path, change(text));
    return path;
  };
  const caddyfile = write("Caddyfile", (same) => same);
  const daemon = startDaemon(findProgram("env") ?? "env", [
    `XDG_CONFIG_HOME=${dir}`,
    findProgram("caddy") ?? "caddy",
    "run",
    "--config",
    caddyfile,
  ]);
  if (!(await accepts(port, daemon))) {
    await daemon.stop();
    throw new Error(`caddy did not start: ${daemon.output()}`);
  }
  return { port, admin, caddyfile, write, stop: () => daemon.stop(), log: () => daemon.output() };
}
