/** What the service does by itself. Jobs look at wall time at every tick, never sleep until a moment: clocks jump and hosts suspend. */
import { schedule } from "node-cron";
import type { Events } from "../events.ts";

export interface Job {
  readonly name: string;
  /** Does what is due now, if anything. */
  run(): Promise<void>;
}

const everyFiveSeconds = "*/5 * * * * *";

/** Runs the jobs one after another at every tick; a tick that finds the last one still running is left out. A failing job is logged and tried again at the next tick. */
export function startJobs(jobs: readonly Job[], events: Events): AsyncDisposable {
  let running: Promise<void> | null = null;
  const tick = async (): Promise<void> => {
    for (const job of jobs) {
      try {
        await job.run();
      } catch (error) {
        events.faulted(error, `job ${job.name}`);
      }
    }
  };
  const task = schedule(everyFiveSeconds, () => {
    running ??= tick().finally(() => {
      running = null;
    });
  });
  return {
    async [Symbol.asyncDispose]() {
      await task.destroy();
      await running;
    },
  };
}
