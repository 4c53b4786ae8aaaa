/** Starts a server that died of a set: Apache exits when it is to reload a bad one, and no reload brings it back. */
import { runProgram, systemSearchPath } from "./run-program.ts";
import { defaultReloadTimeoutMs, type ReloadContext, type ReloadResult, type ReloadStrategy } from "./strategy.ts";

export interface Startable {
  readonly reload: ReloadStrategy;
  /** `start` of agent.yml: argv. */
  readonly start: readonly string[] | null;
}

/** Null when nothing says how: then a human has to. Never throws. */
export async function startServer(
  { reload, start }: Startable,
  context: ReloadContext = {},
): Promise<ReloadResult | null> {
  if (start !== null) return run(start, context);
  if (reload.kind !== "systemd") return null;
  // A unit that failed too often is not started before its failures are forgotten; whether there were any does not matter.
  await run(["systemctl", "--no-ask-password", "reset-failed", reload.unit], context);
  return run(["systemctl", "--no-ask-password", "start", reload.unit], context);
}

async function run(argv: readonly string[], context: ReloadContext): Promise<ReloadResult> {
  const { ok, detail } = await runProgram(argv, {
    timeoutMs: defaultReloadTimeoutMs,
    searchPath: context.searchPath ?? systemSearchPath,
    signal: context.signal,
  });
  return { ok, detail };
}
