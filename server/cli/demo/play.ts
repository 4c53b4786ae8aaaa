/** The demo itself: the cast enters, then rounds of renewals and one revocation. */
import { join } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import { prepareAgent } from "./agent.ts";
import { ask, enroll, type Holder, keepFresh, knock } from "./client.ts";
import { DemoFailure } from "./failure.ts";
import { gatewayHost, type Gateway, planGateway } from "./gateway.ts";
import { type Load, startLoad } from "./load.ts";
import type { Score } from "./score.ts";
import { type DemoService, type LoggedLeaf, startService } from "./service.ts";
import type { Stage } from "./stage.ts";
import { until } from "./wait.ts";

const gatewayId = "gateway-1";
const clientId = "client-1";
const renewalsPerRound = 2;
const reason = "keyCompromise";
/** nginx's workers, old and new, take turns for a moment after a reload: one refusal proves nothing. */
const refusalsInARow = 5;
/** A leaf of the gateway lives 20 s; a renewal that takes twice that did not happen. */
const renewalTimeoutMs = 40_000;
const stepTimeoutMs = 30_000;
const mostDropsTold = 20;

/**
 * Plays one round, or rounds until the stage's signal ends it.
 * @throws DemoFailure for the step that did not hold, the signal's reason when somebody ended it
 */
export async function play(stage: Stage, score: Score, once: boolean): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const cast = await enter(stage, score, stack);
  await playRound(stage, score, cast, 1);
  if (once) return;
  for (let round = 2; ; round += 1) await playRound(stage, score, cast, round);
}

interface Cast {
  readonly service: DemoService;
  readonly gateway: Gateway;
  readonly port: number;
  readonly load: Load;
}

/** Service, gateway with its agent, client: each starts with what the one before it gave. What is stopped first is started last. */
async function enter(stage: Stage, score: Score, stack: AsyncDisposableStack): Promise<Cast> {
  const { tell, signal } = stage;
  const directory = join(stage.dir, "gateway");
  const plan = await planGateway(stage, {
    dir: join(stage.dir, "nginx"),
    files: join(directory, "current"),
    onReloaded() {
      score.story.reloaded();
      tell({ event: "reloaded", gateway: plan.name });
    },
  });
  const service = stack.use(await startService(stage, listenTo(stage, score)));
  tell({ event: "started", what: "service", detail: `issues and renews at ${service.agents}` });

  const agent = await prepareAgent(stage, { service, plan, directory });
  await service.admin.post("/v1/identities", { id: gatewayId, profile: "gateway", names: { dns: [gatewayHost] } });
  const { token } = await service.admin.post<{ token: string }>("/v1/tokens", { identity: gatewayId, ttl: "5m" });
  const { finished } = await agent.enroll(token);
  const gateway = stack.use(await plan.start());
  tell({
    event: "started",
    what: "gateway",
    detail: `${plan.description} at https://127.0.0.1:${plan.port}, mTLS and CRL`,
  });
  await finished;
  stack.use(await agent.run());
  tell({ event: "started", what: "agent", detail: `keeps the files in ${directory}` });

  const client = await enroll(service, clientId, signal);
  const load = stack.use(startClient(stage, score, plan.port, client));
  score.load = load;
  stack.use(renewInBackground(stage, service, client, load));
  return { service, gateway, port: plan.port, load };
}

/** The service's log says what it issued and what was first used. */
function listenTo(stage: Stage, score: Score) {
  const previous = new Map<string, string>();
  return {
    onIssued({ identity, fingerprint, notAfter }: LoggedLeaf): void {
      if (identity !== gatewayId && !identity.startsWith("client-")) return;
      if (identity === gatewayId) score.story.issued({ fingerprint });
      const before = previous.get(identity);
      previous.set(identity, fingerprint);
      if (before === undefined) stage.tell({ event: "enrolled", identity, fingerprint, notAfter });
      else stage.tell({ event: "renewed", identity, fingerprint, previous: before, notAfter });
    },
    onFirstUsed({ identity, fingerprint }: Pick<LoggedLeaf, "identity" | "fingerprint">): void {
      if (identity !== gatewayId) return;
      score.story.confirmed(fingerprint);
      stage.tell({ event: "confirmed", identity, fingerprint });
    },
  };
}

function startClient({ tell }: Stage, score: Score, port: number, client: Holder): Load {
  const load = startLoad(port, client, {
    onServed(fingerprint) {
      score.story.served(fingerprint);
      const counted = { requests: load.requests(), dropped: load.dropped() };
      tell({ event: "served", identity: gatewayId, fingerprint, ...counted });
    },
    onDropped(why) {
      if (load.dropped() <= mostDropsTold) tell({ event: "dropped", identity: clientId, reason: why });
    },
  });
  return load;
}

function renewInBackground(stage: Stage, service: DemoService, client: Holder, load: Load): AsyncDisposable {
  const ending = new AbortController();
  const signal = AbortSignal.any([stage.signal, ending.signal]);
  const running = keepFresh(service, client, load.use, signal).catch((error: unknown) => {
    if (!signal.aborted) stage.fail(new DemoFailure(`${clientId} could not renew: ${String(error)}`, { cause: error }));
  });
  return {
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running;
    },
  };
}

async function playRound(stage: Stage, score: Score, cast: Cast, round: number): Promise<void> {
  const { signal } = stage;
  for (let wanted = score.story.renewals() + 1, left = renewalsPerRound; left > 0; left -= 1, wanted += 1) {
    await until(() => score.story.renewals() >= wanted, {
      what: `renewal ${wanted} of the gateway (issued, reloaded, served, confirmed)`,
      timeoutMs: renewalTimeoutMs,
      signal,
    });
  }
  const guest = await enroll(cast.service, `client-${round + 1}`, signal);
  await letThrough(stage, cast, guest);
  await revokeAndRefuse(stage, cast, guest);
  score.revokedRefused = true;
  await stillServes(stage, cast);
}

async function letThrough({ tell }: Stage, { port, gateway }: Cast, guest: Holder): Promise<void> {
  gateway.takeRefusals();
  const { status } = await knock(port, guest);
  if (status !== 200) {
    throw new DemoFailure(
      `${guest.identity} has a good certificate, and the gateway answered ${status} (${gateway.takeRefusals().join(", ")})`,
    );
  }
  tell({ event: "passed", identity: guest.identity, fingerprint: guest.fingerprint });
}

async function revokeAndRefuse(stage: Stage, cast: Cast, guest: Holder): Promise<void> {
  const { tell } = stage;
  const { identity, fingerprint, serial } = guest;
  await cast.service.admin.post("/v1/revocations", { serial, reason });
  const revokedAt = performance.now();
  const afterMs = (): number => Math.round(performance.now() - revokedAt);
  tell({ event: "revoked", identity, fingerprint, serial, reason });

  const code = await refusalOf(stage, cast, guest);
  if (code !== "certificate-revoked")
    throw new DemoFailure(`the service should have refused ${identity} with certificate-revoked, and said ${code}`);
  tell({ event: "refused", identity, by: "service", reason: code, afterMs: afterMs() });

  const why = await refusedByGateway(stage, cast, guest);
  tell({ event: "refused", identity, by: "gateway", reason: why, afterMs: afterMs() });
}

async function refusalOf({ signal }: Stage, { service }: Cast, guest: Holder): Promise<string> {
  try {
    await ask(service, guest, signal);
    return "yes";
  } catch (error) {
    if (error instanceof AppError) return error.code;
    throw error;
  }
}

/** Refused steadily, and for the right reason. Resolves to the gateway's words. */
async function refusedByGateway(stage: Stage, { gateway, port }: Cast, guest: Holder): Promise<string> {
  const { signal } = stage;
  let refused = 0;
  gateway.takeRefusals();
  await until(
    async () => {
      const { status } = await knock(port, guest);
      refused = status === 200 ? 0 : refused + 1;
      return refused >= refusalsInARow;
    },
    { what: `the gateway's refusal of the revoked ${guest.identity}`, timeoutMs: stepTimeoutMs, signal },
  );
  // Its log may be a moment behind its answer.
  const reasons = new Set<string>();
  await until(
    () => {
      for (const refusal of gateway.takeRefusals()) reasons.add(refusal);
      return reasons.has("certificate revoked");
    },
    { what: "a refusal with the reason `certificate revoked` in the gateway's log", timeoutMs: 2000, signal },
  );
  return [...reasons].join(", ");
}

/** The first client passes as before, with the CRL that names the second. */
async function stillServes({ tell, signal }: Stage, { load }: Cast): Promise<void> {
  const requests = load.requests();
  const dropped = load.dropped();
  await until(() => load.requests() >= requests + 20, {
    what: `20 more requests of ${clientId}`,
    timeoutMs: stepTimeoutMs,
    signal,
  });
  if (load.dropped() > dropped) throw new DemoFailure(`${clientId} was dropped too after the revocation`);
  tell({ event: "passed", identity: clientId, fingerprint: load.holder().fingerprint });
}
