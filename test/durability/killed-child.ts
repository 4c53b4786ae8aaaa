import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface Killed {
  /** What it said before; what was cut off in the middle was never said. */
  readonly output: string;
  /** Null when it was killed, or was left to its end by another signal. */
  readonly code: number | null;
  /** It had ended by itself before the kill. */
  readonly hadEnded: boolean;
}

/** Milliseconds after the child has said `ready`, or after its start; or let it come to its end. */
export type KillAt = { readonly afterReady: number } | { readonly afterStart: number } | "never";

/** Runs a script of this folder as a process of its own and ends it with SIGKILL. */
export async function runAndKill(script: string, args: readonly string[], at: KillAt): Promise<Killed> {
  const child = spawn(process.execPath, [join(import.meta.dirname, script), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  let output = "";
  const ready = new Promise<void>((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.includes("ready")) resolve();
    });
  });
  if (at !== "never") {
    if ("afterStart" in at) await sleep(at.afterStart);
    else await Promise.race([ready.then(() => sleep(at.afterReady)), ended]);
  }
  const hadEnded = child.exitCode !== null;
  if (at !== "never") child.kill("SIGKILL");
  const [code] = (await ended) as [number | null];
  return { output, code, hadEnded };
}
