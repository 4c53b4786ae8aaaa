/** How many reloads several requests come to, when, and who is told what of them. */
import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createReloadDesk } from "../../../../agent-client/reload/desk.ts";
import type { Change, ReloadContext, ReloadResult, ReloadStrategy } from "../../../../agent-client/reload/strategy.ts";

const nginx: ReloadStrategy = { kind: "systemd", unit: "nginx.service", timeoutMs: 1000 };
const haproxy: ReloadStrategy = { kind: "signal", signal: "USR2", pidFile: "/run/haproxy.pid", process: "haproxy" };
const none: Change = { leaf: false, trust: false, revoked: false, crls: false };

interface Told {
  readonly strategy: ReloadStrategy;
  readonly context: ReloadContext;
  readonly at: number;
}

/** A desk whose reloads take a while and are counted. */
function counted(strategies: readonly ReloadStrategy[], { takesMs = 20, gatherMs = 40, spacingMs = 100 } = {}) {
  const told: Told[] = [];
  let running = 0;
  let most = 0;
  const ask = createReloadDesk({
    strategies,
    gatherMs,
    spacingMs,
    async tell(strategy, context = {}): Promise<ReloadResult> {
      told.push({ strategy, context, at: performance.now() });
      running += 1;
      most = Math.max(most, running);
      await sleep(takesMs, undefined, { signal: context.signal }).catch(() => undefined);
      running -= 1;
      return { ok: context.signal?.aborted !== true, detail: `reload ${told.length}` };
    },
  });
  return { ask, told, most: () => most };
}

test("requests for one server that come together share one reload, which is told of everything that is news", async () => {
  const { ask, told } = counted([nginx, { ...nginx }]);
  const answers = await Promise.all([
    ask(nginx, { change: { ...none, leaf: true } }),
    ask({ timeoutMs: 2000, unit: "nginx", kind: "systemd" }, { change: { ...none, crls: true } }),
  ]);
  assert.equal(told.length, 1);
  assert.deepEqual(told[0]?.context.change, { leaf: true, trust: false, revoked: false, crls: true });
  assert.deepEqual(
    answers.map(({ ok, detail }) => [ok, detail]),
    [
      [true, "reload 1"],
      [true, "reload 1"],
    ],
  );
});

test("a request that says nothing of what is news makes everything news", async () => {
  const { ask, told } = counted([nginx, nginx]);
  await Promise.all([ask(nginx, { change: none }), ask(nginx)]);
  assert.deepEqual(told[0]?.context.change, { leaf: true, trust: true, revoked: true, crls: true });
});

test("a request that comes while a reload runs gets the next one, after a rest", async () => {
  const { ask, told, most } = counted([nginx, nginx]);
  const first = ask(nginx);
  while (told.length === 0) await sleep(2);
  const late = await Promise.all([ask(nginx), ask(nginx), first]);
  assert.equal(told.length, 2);
  assert.deepEqual(
    late.map(({ detail }) => detail),
    ["reload 2", "reload 2", "reload 1"],
  );
  assert.equal(most(), 1, "never two at once");
  const [one, two] = told;
  assert.ok(one && two && two.at - one.at >= 20 + 100 - 2, `${(two?.at ?? 0) - (one?.at ?? 0)} ms apart`);
});

test("a server of one certificate waits for nobody the first time, and rests before the second", async () => {
  const { ask, told } = counted([nginx, haproxy], { gatherMs: 5000, takesMs: 1 });
  const start = performance.now();
  await ask(nginx);
  assert.ok((told[0]?.at ?? Infinity) - start < 1000);
  await ask(nginx);
  assert.ok((told[1]?.at ?? 0) - (told[0]?.at ?? 0) >= 99);
});

test("different servers are told side by side", async () => {
  const { ask, told, most } = counted([nginx, haproxy], { takesMs: 60 });
  await Promise.all([ask(nginx), ask(haproxy)]);
  assert.equal(told.length, 2);
  assert.equal(most(), 2);
});

test("a server that watches its files is not told, so nothing is waited for", async () => {
  const { ask, told } = counted([{ kind: "watch" }, { kind: "watch" }], { gatherMs: 5000, spacingMs: 5000 });
  await Promise.all([ask({ kind: "watch" }), ask({ kind: "watch" })]);
  await ask({ kind: "watch" });
  assert.equal(told.length, 3);
});

test("who stops while waiting is answered at once and costs no reload; the others are served", async () => {
  const { ask, told } = counted([nginx, nginx], { gatherMs: 60 });
  const alone = new AbortController();
  const abandoned = ask(nginx, { signal: alone.signal });
  alone.abort();
  assert.deepEqual(await abandoned, { ok: false, detail: "the agent is stopping" });
  await sleep(100);
  assert.equal(told.length, 0, "nobody wants it any more");

  const one = new AbortController();
  const [left, stays] = [ask(nginx, { signal: one.signal }), ask(nginx)];
  one.abort();
  assert.equal((await left).ok, false);
  assert.equal((await stays).ok, true);
  assert.equal(told.length, 1);
  assert.equal((await ask(nginx, { signal: AbortSignal.abort() })).ok, false, "stopped before it asked");
});

test("a reload that runs is ended when all who wanted it have stopped, and not before", async () => {
  const { ask, told } = counted([nginx, nginx], { gatherMs: 1, takesMs: 5000 });
  const [a, b] = [new AbortController(), new AbortController()];
  const both = [ask(nginx, { signal: a.signal }), ask(nginx, { signal: b.signal })];
  while (told.length === 0) await sleep(2);
  const running = told[0]?.context.signal;
  a.abort();
  await both[0];
  assert.equal(running?.aborted, false);
  b.abort();
  await both[1];
  assert.equal(running?.aborted, true);
});

test("a strategy that throws against its promise is a failed reload for all, and the desk goes on", async () => {
  let fails = true;
  const ask = createReloadDesk({
    strategies: [nginx],
    spacingMs: 1,
    tell() {
      return fails ? Promise.reject(new Error("unforeseen")) : Promise.resolve({ ok: true, detail: "" });
    },
  });
  assert.deepEqual(await ask(nginx), { ok: false, detail: "unforeseen" });
  fails = false;
  assert.equal((await ask(nginx)).ok, true);
});

const files = { directory: "/a", owner: null, group: null, mode: 0o600, links: {} };
const target = { ...files, files: ["combined.pem", "ca.pem", "crl.pem"] } as const;
const bySocket: ReloadStrategy = {
  kind: "haproxy",
  socket: "/run/haproxy/admin.sock",
  reload: { kind: "master", socket: "/run/haproxy/master.sock", timeoutMs: 1000 },
  certificate: null,
  caFile: null,
  crlFile: null,
};

test("certificates handed over through one socket are handed over one by one", async () => {
  const { ask, told, most } = counted([bySocket, bySocket]);
  const other = { ...target, directory: "/b" };
  await Promise.all([
    ask(bySocket, { target, change: { ...none, leaf: true } }),
    ask(bySocket, { target: other, change: { ...none, leaf: true } }),
  ]);
  assert.deepEqual(
    told.map(({ context }) => context.target?.directory),
    ["/a", "/b"],
  );
  assert.equal(most(), 1);
});

test("a revocation for which HAProxy is reloaded serves whoever waits for its socket", async () => {
  const { ask, told } = counted([bySocket, bySocket, bySocket]);
  const [second, third] = [
    { ...target, directory: "/b" },
    { ...target, directory: "/c" },
  ];
  const answers = await Promise.all([
    ask(bySocket, { target, change: { ...none, leaf: true } }),
    ask(bySocket, { target: second, change: { ...none, revoked: true, crls: true } }),
    ask(bySocket, { target: third, change: { ...none, revoked: true, crls: true } }),
  ]);
  assert.deepEqual(
    answers.map(({ detail }) => detail),
    ["reload 1", "reload 1", "reload 1"],
  );
  assert.equal(told[0]?.context.target, second, "the driver decides as was foreseen");
  assert.deepEqual(told[0]?.context.change, { leaf: true, trust: false, revoked: true, crls: true });
});
