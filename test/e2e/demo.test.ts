/** `newleaf demo` as a stranger runs it: the launcher, real processes, real nginx and the built-in gateway. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram, needs } from "../support/programs.ts";

const launcher = join(import.meta.dirname, "..", "..", "bin", "newleaf");

type Line = Readonly<Record<string, unknown>>;

interface Run {
  readonly child: ChildProcess;
  /** Its temporary directory; the demo makes its own inside. */
  readonly dir: string;
  readonly lines: readonly Line[];
  /** Resolves to the exit code, after everything it said was read. */
  readonly ended: Promise<number | null>;
  stderr(): string;
  /** Resolves when a line fits. */
  seen(fits: (line: Line) => boolean): Promise<Line>;
}

async function startDemo(
  t: TestContext,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Run> {
  const dir = await mkdtemp(join(tmpdir(), "newleaf-test-demo-"));
  const child = spawn(launcher, ["demo", "--json", ...args], {
    env: { ...process.env, TMPDIR: dir, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(async () => {
    child.kill("SIGKILL");
    for (const pid of await processesOf(dir)) process.kill(pid, "SIGKILL");
    await rm(dir, { recursive: true, force: true });
  });
  const lines: Line[] = [];
  let stderr = "";
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(JSON.parse(line) as Line));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "close").then(([code]) => code as number | null);
  return {
    child,
    dir,
    lines,
    ended,
    stderr: () => stderr,
    async seen(fits) {
      for (let tries = 0; tries < 600; tries += 1) {
        const line = lines.find(fits);
        if (line !== undefined) return line;
        if (child.exitCode !== null) break;
        await sleep(50);
      }
      throw new Error(`the demo did not say it: ${JSON.stringify(lines)} ${stderr}`);
    },
  };
}

/** Every process whose command line names the directory. */
async function processesOf(dir: string): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const commandLine = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (commandLine.includes(dir)) found.push(Number(name));
  }
  return found;
}

async function assertNothingIsLeft({ dir }: Run): Promise<void> {
  assert.deepEqual(await processesOf(dir), [], "no process stays");
  assert.deepEqual(
    (await readdir(dir)).filter((name) => name.startsWith("newleaf-demo-")),
    [],
    "no directory stays",
  );
}

async function assertWholeLoop(run: Run): Promise<void> {
  assert.equal(await run.ended, 0, `${run.stderr()} ${JSON.stringify(run.lines)}`);
  const { summary } = run.lines.at(-1) as { summary: Record<string, unknown> };
  assert.deepEqual(Object.keys(summary), ["renewals", "served", "revokedRefused", "requests", "dropped"]);
  assert.equal(summary["dropped"], 0);
  assert.equal(summary["revokedRefused"], true);
  assert.ok((summary["renewals"] as number) >= 2);
  assert.ok((summary["requests"] as number) > 100, "the client never pauses");
  const served = summary["served"] as string[];
  assert.equal(served.length, (summary["renewals"] as number) + 1, "the first leaf and one for every renewal");
  assert.equal(new Set(served).size, served.length);
  for (const print of served) assert.match(print, /^sha256:[0-9a-f]{64}$/);

  const events = run.lines.slice(0, -1);
  for (const event of events) assert.ok(!Number.isNaN(Date.parse(String(event["at"]))));
  const at = (event: string, fingerprint: string): number =>
    events.findIndex((line) => line["event"] === event && line["fingerprint"] === fingerprint);
  const [first = "", ...renewed] = served;
  assert.ok(at("enrolled", first) >= 0 && at("enrolled", first) < at("served", first));
  for (const print of renewed) {
    const [begun, seen] = [at("renewed", print), at("served", print)];
    assert.ok(begun >= 0 && begun < seen, "renewed, then served");
    const between = events.slice(begun, Math.max(seen, at("confirmed", print)) + 1);
    assert.ok(
      between.some((line) => line["event"] === "reloaded"),
      "the gateway was reloaded for it",
    );
  }
  const refusals = events.filter((line) => line["event"] === "refused");
  assert.deepEqual(
    refusals.map(({ by, reason }) => ({ by, reason })),
    [
      { by: "service", reason: "certificate-revoked" },
      { by: "gateway", reason: "certificate revoked" },
    ],
  );
  const last = events.at(-1);
  assert.deepEqual({ event: last?.["event"], identity: last?.["identity"] }, { event: "passed", identity: "client-1" });
  await assertNothingIsLeft(run);
}

test(
  "demo --once shows two renewals and a revocation on real nginx and drops no request",
  { skip: needs("nginx") },
  async (t) => {
    const run = await startDemo(t, ["--once"]);
    const gateway = await run.seen((line) => line["what"] === "gateway");
    assert.match(String(gateway["detail"]), /^nginx \d/);
    await assertWholeLoop(run);
  },
);

test("demo --once does the same with its built-in gateway where nginx is not on PATH", async (t) => {
  const tools = await mkdtemp(join(tmpdir(), "newleaf-test-tools-"));
  t.after(() => rm(tools, { recursive: true, force: true }));
  await mkdir(join(tools, "programs"));
  // What the launchers need, and no nginx: not here, and not in an sbin beside.
  for (const name of ["readlink", "dirname"]) await symlink(findProgram(name) ?? "", join(tools, "programs", name));
  const run = await startDemo(t, ["--once"], { PATH: join(tools, "programs"), NEWLEAF_NODE: process.execPath });
  const gateway = await run.seen((line) => line["what"] === "gateway");
  assert.match(String(gateway["detail"]), /^built-in gateway \(nginx is not installed\)/);
  await assertWholeLoop(run);
});

test("demo without --once goes on until SIGINT, sums up, ends 0 and leaves nothing behind", async (t) => {
  // Settings for the caller's own service are no settings of the demo's.
  const run = await startDemo(t, [], { NEWLEAF_DATA: "/nonexistent", NEWLEAF_PROFILES_GATEWAY_VALIDITY: "1ms" });
  await run.seen((line) => line["event"] === "served");
  run.child.kill("SIGINT");
  assert.equal(await run.ended, 0, run.stderr());
  const { summary } = run.lines.at(-1) as { summary: Record<string, unknown> };
  assert.equal(summary["dropped"], 0);
  assert.equal(summary["revokedRefused"], false);
  await assertNothingIsLeft(run);
});

test("demo --once ends 1, says what failed and leaves nothing behind when a part of it dies", async (t) => {
  const run = await startDemo(t, ["--once"]);
  await run.seen((line) => line["what"] === "agent");
  const [agent] = await agentsOf(run.dir);
  assert.ok(agent !== undefined);
  process.kill(agent, "SIGKILL");
  assert.equal(await run.ended, 1);
  assert.match(run.stderr(), /^newleaf: newleaf-agent run was killed while the demo needed it/);
  assert.equal(run.lines.at(-2)?.["event"], "failed");
  const { summary } = run.lines.at(-1) as { summary: Record<string, unknown> };
  assert.equal(summary["revokedRefused"], false);
  await assertNothingIsLeft(run);
});

async function agentsOf(dir: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await processesOf(dir)) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (commandLine.includes("agent.yml")) found.push(pid);
  }
  return found;
}
