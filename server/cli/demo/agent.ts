/** The agent beside the gateway: the real `newleaf-agent`, as a host runs it. */
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { type Program, startProgram } from "./children.ts";
import { DemoFailure } from "./failure.ts";
import { gatewayHost, type GatewayPlan } from "./gateway.ts";
import { findAgent } from "./programs.ts";
import type { DemoService } from "./service.ts";
import type { Stage } from "./stage.ts";
import { until } from "./wait.ts";

export interface Agent {
  /**
   * `newleaf-agent enroll`, until the first files are on disk: the gateway can start with them. It goes on to look whether they
   * are served; `finished` resolves when it has seen it, or has given up and left it to `run`.
   */
  enroll(token: string): Promise<{ readonly finished: Promise<unknown> }>;
  /** `newleaf-agent run`. */
  run(): Promise<Program>;
}

export interface AgentOptions {
  readonly service: DemoService;
  readonly plan: GatewayPlan;
  /** Where it keeps the gateway's files. */
  readonly directory: string;
}

/** @throws DemoFailure when the agent is not installed, saying how to install it */
export async function prepareAgent(stage: Stage, { service, plan, directory }: AgentOptions): Promise<Agent> {
  const program = findAgent(stage.env);
  if (program === null) {
    throw new DemoFailure(
      "newleaf-agent is not installed beside newleaf and is not on PATH. Install it with: npm install @newleaf/agent",
    );
  }
  const config = join(stage.dir, "agent.yml");
  await writeFile(
    config,
    stringify({
      server: service.agents,
      enrollment: service.enrollment,
      roots: service.rootsFile,
      state: join(stage.dir, "agent"),
      certificates: [
        {
          name: "gateway",
          directory,
          files: ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"],
          ...plan.agentSettings,
          probe: { connect: `127.0.0.1:${plan.port}`, serverName: gatewayHost, timeout: "15s" },
        },
      ],
    }),
  );
  const options = { program, env: { ...stage.env, NEWLEAF_NODE: process.execPath } };
  return {
    async enroll(token) {
      const tokenFile = join(stage.dir, "token");
      await writeFile(tokenFile, `${token}\n`, { mode: 0o600 });
      const args = ["enroll", "--config", config, "--token-file", tokenFile];
      const child = await startProgram({ ...options, name: "newleaf-agent enroll", args });
      let hasEnded = false;
      void child.ended.then(() => (hasEnded = true));
      const installed = (): boolean => existsSync(join(directory, "current", "fullchain.pem"));
      await until(() => installed() || hasEnded, {
        what: "the enrollment of the gateway",
        timeoutMs: 30_000,
        signal: stage.signal,
      });
      if (!installed()) throw new DemoFailure(`newleaf-agent enroll installed nothing. It said:${child.lastWords()}`);
      return { finished: child.ended.finally(() => rm(tokenFile, { force: true })) };
    },
    run: () =>
      startProgram({
        ...options,
        name: "newleaf-agent run",
        args: ["run", "--config", config],
        onUnexpectedEnd: stage.fail,
      }),
  };
}
