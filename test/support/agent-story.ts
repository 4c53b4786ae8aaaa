/** An agent in the middle of its work: a real service, a proxy that follows its files as well or badly as a test asks. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Clock } from "@newleaf/shared/clock";
import { passOnce, takeStep } from "../../agent-client/agent.ts";
import type { AgentContext } from "../../agent-client/context.ts";
import type { Decision } from "../../agent-client/decide/decide.ts";
import { nginxFiles, type TestHost, testHost } from "./agent.ts";
import { addGateway, installFirst } from "./first-install.ts";
import { type FileProxy, startFileProxy } from "./file-proxy.ts";
import { startService, type TestService } from "./service.ts";

export const serverName = "gateway.claw.internal";
export const idle = new AbortController().signal;

export interface Story {
  readonly service: TestService;
  readonly host: TestHost;
  readonly agent: AgentContext;
  readonly proxy: FileProxy;
  /** One pass, which tries everything that had failed; what it came to. */
  pass(force?: boolean): Promise<{ failed: boolean; renewed: boolean }>;
  /** What is due now, and nothing that has to wait; like `run` until it sleeps. */
  settle(): Promise<Decision>;
}

/** Enrolled, installed and served by a proxy that follows its files. */
export async function tell(
  settings: {
    env?: Readonly<Record<string, string>>;
    certificate?: Readonly<Record<string, unknown>>;
    clock?: Clock;
  },
  story: (story: Story) => Promise<void>,
): Promise<void> {
  await using service = await startService(settings.env);
  const token = await addGateway(service, serverName);
  const host = testHost(service, join(service.dir, "host"));
  await installFirst(host, token, { files: nginxFiles });
  const proxy = await startFileProxy(host.current);
  try {
    const probe = { connect: proxy.connect, serverName, timeout: "1s" };
    host.configure({ files: nginxFiles, reload: "watch", probe, ...settings.certificate });
    await using app = await host.open(settings.clock === undefined ? {} : { clock: settings.clock });
    const [agent] = app.agents;
    assert.ok(agent);
    const pass = (force = false) => passOnce(agent, { force }, idle);
    assert.equal((await pass()).failed, false, host.lines.join(""));
    await story({ service, host, agent, proxy, pass, settle: () => settleAgent(agent) });
  } finally {
    await proxy.stop();
  }
}

export async function settleAgent(agent: AgentContext): Promise<Decision> {
  for (let count = 1; ; count += 1) {
    const decision = await takeStep(agent, idle);
    if (decision.action === "wait") return decision;
    assert.ok(count < 40, `restless: ${decision.action}, ${decision.reason}`);
  }
}
