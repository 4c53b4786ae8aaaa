/**
 * One reload for several certificates of one server. Who wants a server told asks here: requests that come together share one
 * reload, one that comes while a reload runs gets the next (its files may be newer than what the running one read), and a server
 * is told at most once a second. Each reload of nginx or HAProxy leaves an old worker behind until its last connection ends, and
 * nginx ≥ 1.27.4 tells files apart by inode and a time in seconds.
 */
import { performance } from "node:perf_hooks";
import { reloadsHaproxy } from "./haproxy.ts";
import { reload } from "./drivers.ts";
import { type Change, everything, type ReloadContext, type ReloadResult, type ReloadStrategy } from "./strategy.ts";
import { sleep } from "../wake.ts";

/** Like `reload`: never throws, what went wrong is in the result. */
export type Desk = (strategy: ReloadStrategy, context?: ReloadContext) => Promise<ReloadResult>;

export interface DeskOptions {
  /** Every strategy configured: only a server that several certificates share is worth waiting for company. */
  readonly strategies: readonly ReloadStrategy[];
  /** Default: the real one. */
  readonly tell?: typeof reload;
  /** How long company is waited for; default 250 ms. */
  readonly gatherMs?: number;
  /** Between the end of a reload and the next of the same server; default 1 s. */
  readonly spacingMs?: number;
}

interface Request {
  readonly strategy: ReloadStrategy;
  readonly context: ReloadContext;
  /** The asker has gone: nobody needs this any more. */
  isOver: boolean;
  answer(result: ReloadResult): void;
}

interface Server {
  readonly key: string;
  readonly waiting: Request[];
  /** By the monotonic clock; null before the first reload. */
  endedAt: number | null;
  isServed: boolean;
  /** Ends the pause before a reload when nobody waits for it any more. */
  nap: AbortController;
}

const stopping: ReloadResult = { ok: false, detail: "the agent is stopping" };

export function createReloadDesk(options: DeskOptions): Desk {
  const servers = new Map<string, Server>();
  const shared = sharedServers(options.strategies);
  return (strategy, context = {}) => {
    const key = serverOf(strategy);
    // The server finds out by itself, each certificate on its own.
    if (key === null) return (options.tell ?? reload)(strategy, context);
    const server = servers.get(key) ?? { key, waiting: [], endedAt: null, isServed: false, nap: new AbortController() };
    servers.set(key, server);
    return new Promise((resolve) => {
      enqueue(server, strategy, context, resolve);
      if (!server.isServed) void serve(server, shared.has(key), options);
    });
  };
}

function enqueue(
  server: Server,
  strategy: ReloadStrategy,
  context: ReloadContext,
  resolve: (result: ReloadResult) => void,
): void {
  const { signal } = context;
  const leave = (): void => request.answer(stopping);
  const request: Request = {
    strategy,
    context,
    isOver: false,
    answer(result) {
      if (request.isOver) return;
      request.isOver = true;
      signal?.removeEventListener("abort", leave);
      resolve(result);
      if (server.waiting.every((one) => one.isOver)) server.nap.abort();
    },
  };
  server.waiting.push(request);
  if (signal?.aborted === true) return leave();
  signal?.addEventListener("abort", leave, { once: true });
}

/** Works through what waits for one server, a reload at a time. */
async function serve(server: Server, isShared: boolean, options: DeskOptions): Promise<void> {
  const { gatherMs = 250, spacingMs = 1000, tell = reload } = options;
  server.isServed = true;
  for (;;) {
    server.nap = new AbortController();
    const rested = server.endedAt === null ? 0 : server.endedAt + spacingMs - performance.now();
    const pause = Math.max(isShared ? gatherMs : 0, rested);
    if (pause > 0 && server.waiting.some((one) => !one.isOver)) await sleep(pause, server.nap.signal);
    const batch = takeBatch(server);
    if (batch.length === 0) break;
    const result = await tellOnce(batch, tell);
    server.endedAt = performance.now();
    for (const request of batch) request.answer(result);
  }
  server.isServed = false;
}

/**
 * Those that one reload serves: all that wait, or the first when each brings a certificate of its own. One that has its server
 * reloaded, which others would have told of their certificate only, goes before those and serves them too.
 */
function takeBatch(server: Server): readonly Request[] {
  const alive = server.waiting.filter((one) => !one.isOver);
  const [first] = alive;
  const whole = alive.find(({ strategy, context }) => !carriesPayload(strategy, context));
  const batch =
    whole !== undefined ? [whole, ...alive.filter((one) => one !== whole)] : alive.filter((one) => one === first);
  server.waiting.splice(0, server.waiting.length, ...alive.filter((one) => !batch.includes(one)));
  return batch;
}

async function tellOnce(batch: readonly Request[], tell: typeof reload): Promise<ReloadResult> {
  const [first] = batch;
  if (first === undefined) return stopping;
  const everybodyGone = new AbortController();
  const watch = (): void => {
    if (batch.every(({ context }) => context.signal?.aborted === true)) everybodyGone.abort();
  };
  for (const { context } of batch) context.signal?.addEventListener("abort", watch, { once: true });
  try {
    const change = batch.map(({ context }) => context.change ?? everything).reduce(bothChanges);
    return await tell(first.strategy, { ...first.context, change, signal: everybodyGone.signal });
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  } finally {
    for (const { context } of batch) context.signal?.removeEventListener("abort", watch);
  }
}

function bothChanges(a: Change, b: Change): Change {
  return {
    leaf: a.leaf || b.leaf,
    trust: a.trust || b.trust,
    revoked: a.revoked || b.revoked,
    crls: a.crls || b.crls,
  };
}

/** Whether telling hands over one certificate's bytes or paths, so that telling for one says nothing of another. */
function carriesPayload(strategy: ReloadStrategy, context: ReloadContext): boolean {
  if (strategy.kind === "haproxy") return !reloadsHaproxy(strategy, context);
  return !["systemd", "signal", "command", "touch", "caddy"].includes(strategy.kind);
}

/** What two strategies have in common that speak to the same server; null when nobody is spoken to. */
function serverOf(strategy: ReloadStrategy): string | null {
  if (strategy.kind === "watch") return null;
  // systemctl takes both spellings.
  if (strategy.kind === "systemd") return JSON.stringify([strategy.kind, strategy.unit.replace(/\.service$/, "")]);
  const { kind, ...settings } = strategy;
  // A server's address is enough where the rest says what to hand over.
  if ("socket" in settings) return JSON.stringify([kind, settings.socket]);
  if ("connect" in settings) return JSON.stringify([kind, settings.connect]);
  return JSON.stringify([kind, Object.entries(settings).toSorted(([a], [b]) => (a < b ? -1 : 1))]);
}

function sharedServers(strategies: readonly ReloadStrategy[]): ReadonlySet<string> {
  const keys = strategies.map(serverOf).filter((key) => key !== null);
  return new Set(keys.filter((key, at) => keys.indexOf(key) !== at));
}
