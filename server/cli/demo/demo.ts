/** `newleaf demo`: the whole loop on one machine, in a temporary directory, with leaves that live for seconds. */
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Environment } from "../../config.ts";
import type { Terminal } from "../terminal.ts";
import { killAll } from "./children.ts";
import { humanReporter, jsonReporter, type Reporter } from "./events.ts";
import { DemoFailure, EndedByPerson } from "./failure.ts";
import { play } from "./play.ts";
import { createScore, type Score, summaryOf } from "./score.ts";

export interface DemoOptions {
  /** Two renewals and one revocation, then the end. */
  readonly once?: boolean;
  readonly json?: boolean;
}

/** `--once` takes about 45 seconds; on a machine that cannot keep up it ends here rather than hanging. */
const onceDeadlineMs = 120_000;
const sameRequestMs = 500;
const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Resolves when everything held: with `once` after two renewals and one revocation, else when somebody ended it.
 * Whichever way it ends, its processes and its directory are gone.
 * @throws DemoFailure naming the step that did not hold
 */
export async function demo(terminal: Terminal, options: DemoOptions): Promise<void> {
  const once = options.once === true;
  const reporter = options.json === true ? jsonReporter(terminal) : humanReporter(terminal);
  const score = createScore();
  const failure = await perform(terminal, reporter, score, once);
  if (failure !== null) reporter.tell({ event: "failed", message: failure.message });
  reporter.finish(summaryOf(score));
  if (failure !== null) throw failure;
}

/** Resolves to what did not hold, or null, with everything cleaned up. */
async function perform(
  terminal: Terminal,
  reporter: Reporter,
  score: Score,
  once: boolean,
): Promise<DemoFailure | null> {
  using ending = listenForTheEnd(once);
  const dir = await mkdtemp(join(tmpdir(), "newleaf-demo-"));
  const leave = (): void => {
    killAll();
    rmSync(dir, { recursive: true, force: true });
  };
  // For the ways out that pass no finally: a second Ctrl-C, a fault.
  process.on("exit", leave);
  try {
    const { signal, fail } = ending;
    reporter.begin(dir);
    await play({ dir, terminal, env: environmentOf(terminal.env), signal, fail, tell: reporter.tell }, score, once);
  } catch (error) {
    // What was cut short says only that it was; why, the signal knows.
    const cause: unknown = ending.signal.aborted ? ending.signal.reason : error;
    if (!(cause instanceof EndedByPerson)) return asFailure(cause);
    if (once) return new DemoFailure("It was ended before it was through.");
  } finally {
    await rm(dir, { recursive: true, force: true });
    process.off("exit", leave);
  }
  const dropped = score.load?.dropped() ?? 0;
  return dropped === 0 ? null : new DemoFailure(`${dropped} requests were dropped; none should have been.`);
}

/** The signal that ends the demo: a person, a fault somewhere in it, the deadline. */
function listenForTheEnd(once: boolean): Disposable & Pick<Parameters<typeof play>[0], "signal" | "fail"> {
  const controller = new AbortController();
  let askedAt: number | null = null;
  const onSignal = (): void => {
    const now = performance.now();
    // Who asks twice does not want to wait. Under `npm run` one Ctrl-C arrives twice, from the terminal and from npm.
    if (askedAt !== null && now - askedAt > sameRequestMs) process.exit(1);
    askedAt ??= now;
    controller.abort(new EndedByPerson());
  };
  for (const name of endingSignals) process.on(name, onSignal);
  // `newleaf demo | head`: nobody reads on.
  process.stdout.on("error", onSignal);
  const deadline = once
    ? setTimeout(() => {
        controller.abort(
          new DemoFailure(`It was not through after ${onceDeadlineMs / 1000} s: is the machine very busy?`),
        );
      }, onceDeadlineMs)
    : undefined;
  return {
    signal: controller.signal,
    fail: (failure) => controller.abort(failure),
    [Symbol.dispose]() {
      clearTimeout(deadline);
      for (const name of endingSignals) process.off(name, onSignal);
    },
  };
}

function asFailure(error: unknown): DemoFailure {
  if (error instanceof DemoFailure) return error;
  return new DemoFailure(error instanceof Error ? error.message : String(error), { cause: error });
}

/** The caller's settings of Newleaf are for the caller's service; the demo has its own. */
function environmentOf(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("NEWLEAF_")));
}
