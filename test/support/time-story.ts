/**
 * A month of an agent's life in a second: a real service, the agent's own steps, and a clock for each that a test moves.
 *
 * TLS knows only the real time, so the month is the one that ends now: service, CA and leaves are as old as they say.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pemEncode } from "@newleaf/shared/pem";
import { passOnce } from "../../agent-client/agent.ts";
import type { AgentApp } from "../../agent-client/app.ts";
import { loadConfig } from "../../agent-client/config/config.ts";
import { createLog } from "../../agent-client/log.ts";
import type { AgentContext } from "../../agent-client/context.ts";
import type { HeldLeaf } from "../../agent-client/journal.ts";
import { newestLeaf } from "../../agent-client/decide/leaves.ts";
import { enroll } from "../../agent-client/request.ts";
import type { AgentStatus } from "../../agent-client/status/shape.ts";
import { readStatus } from "../../agent-client/status/status.ts";
import { systemCaller } from "../../server/authority/authority.ts";
import { publishDueCrls } from "../../server/authority/revocation/publish-crl.ts";
import { nginxFiles, testHost } from "./agent.ts";
import { idle, serverName, settleAgent } from "./agent-story.ts";
import { startFileProxy } from "./file-proxy.ts";
import { type Front, type FrontMode, type Refusal, startFront, startRefuser } from "./front.ts";
import { type MovableClock, movableClock, startService, type TestService } from "./service.ts";
import { makeRoot } from "./test-ca.ts";

export const minute = 60_000;
export const hour = 60 * minute;
export const day = 24 * hour;

export interface TimeStory {
  readonly service: TestService;
  readonly agent: AgentContext;
  readonly app: AgentApp;
  readonly clock: MovableClock;
  /** What the agent logged. */
  readonly lines: readonly string[];
  /** What the service answers while the mode is `answers`. */
  readonly refusal: { now: Refusal };
  /** Connections that reached the fronts so far. */
  asked(): number;
  road(mode: FrontMode): void;
  leaf(): HeldLeaf;
  /** Lets time pass for both, in steps after each of which the agent does what is due. */
  live(span: number, step: number): Promise<void>;
  /** Lets time pass for both while the agent sleeps. */
  sleep(span: number): void;
  status(): Promise<AgentStatus["certificates"][number]>;
}

export interface TimeSettings {
  /** How long ago the story begins. */
  readonly ago: number;
  /** Agent's clock minus the service's. */
  readonly skew?: number;
  readonly validity?: string;
  /** False: nothing is probed, for stories in which TLS would have to verify a leaf that has really expired. */
  readonly probed?: boolean;
}

/** Enrolled, as long ago as the settings say. */
export async function tellOfTime(settings: TimeSettings, tell: (story: TimeStory) => Promise<void>): Promise<void> {
  const { ago, skew = 0, validity = "30d", probed = true } = settings;
  await using stack = new AsyncDisposableStack();
  const service = stack.use(
    await startService({ NEWLEAF_PROFILES_GATEWAY_VALIDITY: validity }, { clockOffset: -ago, foundedThen: true }),
  );
  const names = { dns: [serverName], ip: [], uri: [], email: [] };
  await service.admin("POST", "/v1/identities", { id: "gateway-1", profile: "gateway", names });
  const token = await service.token("gateway-1");
  const foreign = makeRoot(service.dir, "Foreign Root");
  const refusal = { now: { status: 503 } as Refusal };
  const refuser = await startRefuser(foreign, refusal);
  stack.defer(() => refuser.stop());
  const rootsFile = join(service.dir, "both-roots.pem");
  writeFileSync(rootsFile, service.roots + pemEncode("CERTIFICATE", foreign.certificate));
  const fronts: Front[] = [];
  const urls = { ...service.urls };
  for (const name of ["agents", "enrollment"] as const) {
    const front = await startFront(Number(new URL(service.urls[name]).port), refuser.port);
    stack.defer(() => front.stop());
    urls[name] = `https://localhost:${front.port}`;
    fronts.push(front);
  }
  const host = testHost({ urls, rootsFile }, join(service.dir, "host"));
  const config = { files: nginxFiles, reload: "watch" };
  host.configure({ ...config, probe: "none" });
  const clock = movableClock();
  clock.advance(-ago + skew);
  const lines: string[] = [];
  const log = createLog((line) => void lines.push(line), clock.now);
  const overrides = { clock, log, random: () => 0.5, serviceTimeoutMs: 1000 };
  {
    await using app = await host.open(overrides);
    const [agent] = app.agents;
    if (agent === undefined) throw new Error("no agent");
    await enroll(agent, token);
    await passOnce(agent, { force: false }, idle);
    // A leaf that is not valid yet, by this clock, is installed when it is.
    for (let count = 0; skew < 0 && count < 24; count += 1) {
      for (const one of [clock, service.clock]) one.advance(5 * minute);
      await settleAgent(agent);
    }
  }
  if (probed) {
    const proxy = await startFileProxy(host.current);
    stack.defer(() => proxy.stop());
    host.configure({ ...config, probe: { connect: proxy.connect, serverName, timeout: "1s" } });
  }
  const app = stack.use(await host.open(overrides));
  const [agent] = app.agents;
  if (agent === undefined) throw new Error("no agent");
  await settleAgent(agent);
  const pass = (span: number): void => {
    clock.advance(span);
    service.clock.advance(span);
  };
  await tell({
    service,
    agent,
    app,
    clock,
    lines,
    refusal,
    asked: () => fronts.reduce((sum, front) => sum + front.count, 0),
    road: (mode) => fronts.forEach((front) => (front.mode = mode)),
    leaf() {
      const leaf = newestLeaf(agent.journal.state);
      if (leaf === null) throw new Error("no leaf");
      return leaf;
    },
    async live(span, step) {
      const until = clock.now() + span;
      while (clock.now() < until) {
        pass(Math.min(step, until - clock.now()));
        await publishDueCrls(service.server.authority, systemCaller("test"));
        await settleAgent(agent);
      }
    },
    sleep: pass,
    async status() {
      const [status] = (await readStatus(loadConfig(host.configFile), clock.now())).certificates;
      if (status === undefined) throw new Error("no status");
      return status;
    },
  });
}

/** Lines of a level, for a look at what an operator sees. */
export function ofLevel(lines: readonly string[], level: "warn" | "error"): readonly string[] {
  return lines.filter((line) => line.split(" ")[1] === level);
}
