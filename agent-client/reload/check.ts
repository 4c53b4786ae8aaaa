import { validateProgram } from "./command.ts";
import { runProgram, systemSearchPath } from "./run-program.ts";
import { defaultReloadTimeoutMs, type ReloadContext, type ReloadResult } from "./strategy.ts";

/**
 * Runs the server's own configuration check (`[nginx, -t]`): after the switch, before the server hears of it. Its failure means
 * that the server would not start from what is on the disk now. Never throws.
 */
export async function runCheck(argv: readonly string[], context: ReloadContext = {}): Promise<ReloadResult> {
  const { ok, detail } = await runProgram(argv, {
    timeoutMs: defaultReloadTimeoutMs,
    searchPath: context.searchPath ?? systemSearchPath,
    signal: context.signal,
  });
  return { ok, detail };
}

/** What keeps the check from being run; empty when nothing does. Runs nothing. */
export async function validateCheck(argv: readonly string[], context: ReloadContext = {}): Promise<readonly string[]> {
  return validateProgram(argv, context);
}
