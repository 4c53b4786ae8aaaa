import { spawnSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { startProgram } from "./children.ts";
import { gatewayHost, type Gateway, type GatewayOptions, type GatewayPlan } from "./gateway.ts";
import type { Stage } from "./stage.ts";
import { until } from "./wait.ts";

/** The version of an nginx that the demo can use: with TLS, and 1.19.5 or later, which knows `-e`. Null for any other. */
export function usableVersion(program: string): string | null {
  const { stderr, status } = spawnSync(program, ["-V"], { encoding: "utf8", timeout: 10_000 });
  const [, version, major, minor, patch] = /nginx\/((\d+)\.(\d+)\.(\d+))/.exec(stderr) ?? [];
  if (status !== 0 || version === undefined || !stderr.includes("http_ssl_module")) return null;
  const age = Number(major) * 1e6 + Number(minor) * 1e3 + Number(patch);
  return age >= 1_019_005 ? version : null;
}

interface Nginx {
  readonly port: number;
  readonly program: string;
  readonly version: string;
}

export async function planNginx(stage: Stage, options: GatewayOptions, nginx: Nginx): Promise<GatewayPlan> {
  const { dir } = options;
  const config = join(dir, "nginx.conf");
  const pidFile = join(dir, "nginx.pid");
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await writeFile(config, configuration(options, nginx.port, pidFile));
  // Nothing goes to the places that were compiled in, such as /var/log/nginx.
  const args = ["-p", dir, "-e", "stderr", "-c", config];
  return {
    name: "nginx",
    description: `nginx ${nginx.version}`,
    port: nginx.port,
    agentSettings: {
      reload: { signal: "HUP", pidFile, process: "nginx" },
      check: [nginx.program, ...args, "-t", "-q"],
    },
    start: () => start(stage, options, nginx, args),
  };
}

async function start(
  stage: Stage,
  options: GatewayOptions,
  { port, program }: Nginx,
  args: readonly string[],
): Promise<Gateway> {
  const refusals: string[] = [];
  const child = await startProgram({
    name: "nginx",
    program,
    args,
    env: stage.env,
    onLine(line) {
      if (line.includes("(SIGHUP) received from") && line.includes("reconfiguring")) options.onReloaded();
      const reason = /client SSL certificate verify error: \(\d+:([^)]*)\)/.exec(line)?.[1];
      if (reason !== undefined) refusals.push(reason);
    },
    onUnexpectedEnd: stage.fail,
  });
  await using stack = new AsyncDisposableStack();
  stack.use(child);
  await until(() => accepts(port), { what: "the start of nginx", timeoutMs: 10_000, signal: stage.signal });
  const running = stack.move();
  return { takeRefusals: () => refusals.splice(0), [Symbol.asyncDispose]: () => running.disposeAsync() };
}

function configuration({ dir, files }: GatewayOptions, port: number, pidFile: string): string {
  // A worker of another user could not pass a 0700 directory of root's.
  const user = process.geteuid?.() === 0 ? "user root;\n" : "";
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `  ${kind}_temp_path ${join(dir, kind)};`)
    .join("\n");
  return `${user}daemon off;
worker_processes 1;
pid ${pidFile};
error_log stderr info;
events { worker_connections 256; }
http {
  access_log off;
${temporary}
  server {
    listen 127.0.0.1:${port} ssl;
    server_name ${gatewayHost};
    ssl_certificate ${join(files, "fullchain.pem")};
    ssl_certificate_key ${join(files, "key.pem")};
    ssl_protocols TLSv1.2 TLSv1.3;

    # Clients need a certificate of this CA that no CRL names.
    ssl_client_certificate ${join(files, "ca.pem")};
    ssl_crl ${join(files, "crl.pem")};
    ssl_verify_client on;
    ssl_verify_depth 3;

    # A resumed session would not look at the CRL again.
    ssl_session_cache off;
    ssl_session_tickets off;

    location / {
      default_type text/plain;
      return 200 "ok\\n";
    }
  }
}
`;
}

function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: "127.0.0.1", port });
  socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}
