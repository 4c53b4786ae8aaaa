/** The TLS gateway of the demo: mutual TLS with a CRL, real nginx where it is installed, else one made of Node. */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { findDaemon } from "./programs.ts";
import { planBuiltInGateway } from "./built-in-gateway.ts";
import { planNginx, usableVersion } from "./nginx-gateway.ts";
import type { Stage } from "./stage.ts";

export const gatewayHost = "gateway.demo.internal";

/** A gateway that can be written into agent.yml before it has its first certificate. */
export interface GatewayPlan {
  /** `nginx` or `built-in gateway`. */
  readonly name: string;
  /** Which one, and why. */
  readonly description: string;
  readonly port: number;
  /** `reload` and `check` as agent.yml takes them. */
  readonly agentSettings: Readonly<Record<string, unknown>>;
  start(): Promise<Gateway>;
}

export interface Gateway extends AsyncDisposable {
  /** Why it turned clients away since the last call, in OpenSSL's words. */
  takeRefusals(): readonly string[];
}

export interface GatewayOptions {
  /** Of its own, for configuration and pid file. */
  readonly dir: string;
  /** Where the agent keeps the files in force: `…/current`. */
  readonly files: string;
  readonly onReloaded: () => void;
}

export async function planGateway(stage: Stage, options: GatewayOptions): Promise<GatewayPlan> {
  const port = await freePort();
  // The agent looks into /proc before it signals anybody.
  if (process.platform !== "linux") return planBuiltInGateway(stage, options, { port, why: "nginx needs Linux here" });
  const program = findDaemon(stage.env, "nginx");
  if (program === null) return planBuiltInGateway(stage, options, { port, why: "nginx is not installed" });
  const version = usableVersion(program);
  if (version === null) {
    return planBuiltInGateway(stage, options, { port, why: `${program} is older than 1.19.5 or has no TLS` });
  }
  return planNginx(stage, options, { port, program, version });
}

/**
 * A port of 127.0.0.1 that nobody listens on. Not from the ephemeral range (32768 and up on Linux), from which any outgoing
 * connection may take it before we do.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    try {
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
    } catch {
      continue;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}
