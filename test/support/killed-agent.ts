/** kill -9 of the agent between every two steps of its journal, beside a server that is told in one way or another. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { readJournal, steps } from "../../agent-client/journal.ts";
import { probeOnce } from "../../agent-client/probe/probe.ts";
import { type TestHost, testHost, until } from "./agent.ts";
import { addGateway, installFirst } from "./first-install.ts";
import { serve } from "./service-process.ts";
import { startService } from "./service.ts";

export const serverName = "gateway.claw.internal";
const program = join(import.meta.dirname, "killable-agent.ts");

/** The server beside the agent, started from what is on disk. */
export interface BesideServer {
  readonly port: number;
  /** How the agent makes it load: `reload`, and what else of the certificate in agent.yml. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Fails when it would not start from the files that are on disk now. */
  assertStarts(after: string): Promise<void> | void;
  stop(): Promise<void>;
}

/**
 * Renews again and again, each time killed one step later. Whatever was under way: a whole set is on disk, the server would start
 * from it and answers, and the next pass completes one renewal and only one. Every arrow of the journal is among the places.
 *
 * @param skipped arrows that this agent.yml never takes
 */
export async function killBetweenAllSteps(
  files: readonly string[],
  start: (host: TestHost, dir: string) => Promise<BesideServer>,
  skipped: readonly string[],
): Promise<void> {
  await using service = await startService();
  const token = await addGateway(service, serverName);
  // The children block this process while they run: the service has to be another one.
  await service.server[Symbol.asyncDispose]();
  const running = await serve(service.dataDir);
  const host = testHost({ urls: running.urls, rootsFile: service.rootsFile }, join(service.dir, "host"));
  await installFirst(host, token, { files });
  const server = await start(host, join(service.dir, "server"));
  try {
    const probe = { connect: `127.0.0.1:${server.port}`, serverName, timeout: "10s" };
    host.configure({ files, probe, ...server.settings });
    const killedAt = await rounds(host, server);
    const missed = steps.filter((step) => !killedAt.has(step) && !skipped.includes(step));
    assert.deepEqual(missed, [], "killed at every arrow");
  } finally {
    await server.stop();
    await running.stop();
  }
}

async function rounds(host: TestHost, server: BesideServer): Promise<ReadonlySet<string>> {
  const killedAt = new Set<string>();
  let generation = 1;
  for (let count = 1; ; count += 1) {
    const killed = run(host.configFile, count, "force");
    const place = killed.lines.at(-1) ?? "";
    if (killed.signal === null) return killedAt;
    assert.equal(killed.signal, "SIGKILL");
    killedAt.add(place);

    host.installed();
    await server.assertStarts(place);
    await until("the server answers", async () => "fingerprint" in (await look(server.port)), 5000);

    const resumed = run(host.configFile, 0, "resume");
    assert.equal(resumed.status, 0, `${place}: ${resumed.stderr}`);
    const outcome = JSON.parse(resumed.lines.at(-1) ?? "{}") as { failed: boolean; step: string; pending: boolean };
    const { failed, step, pending } = outcome;
    assert.deepEqual([failed, step, pending], [false, "idle", false], `${place}: ${resumed.stderr}`);
    const { current } = await readJournal(join(host.state, "gateway"));
    // Before the request was written down nothing had begun; from then on one renewal is completed, and only one.
    generation += place === "due" || place === "key-made" ? 0 : 1;
    assert.equal(current?.generation, generation, `one renewal after ${place}`);
    assert.equal(host.installed(), current?.fingerprint);
    const seen = await look(server.port);
    assert.ok("fingerprint" in seen && seen.fingerprint === current?.fingerprint, `served after ${place}`);
  }
}

function run(config: string, count: number, mode: "force" | "resume") {
  const child = spawnSync(process.execPath, [program, config, String(count), mode], {
    encoding: "utf8",
    timeout: 60_000,
  });
  const lines = child.stdout.split("\n").filter((line) => line !== "");
  return { status: child.status, signal: child.signal, lines, stderr: child.stderr };
}

function look(port: number) {
  return probeOnce({ connect: `127.0.0.1:${port}`, serverName, timeoutMs: 3000 });
}
