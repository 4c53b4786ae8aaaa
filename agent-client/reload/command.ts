import { findProgram, programProblem, runProgram, systemSearchPath } from "./run-program.ts";
import type { CommandStrategy, ReloadContext, ReloadResult } from "./strategy.ts";

/** What a shell says when there is nothing to run: POSIX, Shell Command Language §2.8.2. */
const notRun: ReadonlySet<number> = new Set([126, 127]);

/** Runs the operator's own command; exit code 0 is success. Any other is the server's refusal, as far as can be told. */
export async function reloadByCommand(strategy: CommandStrategy, context: ReloadContext): Promise<ReloadResult> {
  const { ok, detail, exitCode } = await runProgram(strategy.argv, {
    timeoutMs: strategy.timeoutMs,
    searchPath: context.searchPath ?? systemSearchPath,
    signal: context.signal,
  });
  const refused = !ok && exitCode !== null && !notRun.has(exitCode);
  return refused ? { ok, refused, detail } : { ok, detail };
}

export function describeCommand(strategy: CommandStrategy): string {
  return strategy.argv.join(" ");
}

export async function validateCommand(strategy: CommandStrategy, context: ReloadContext): Promise<readonly string[]> {
  return validateProgram(strategy.argv, context);
}

/** What keeps this argv from being run; empty when nothing does. Runs nothing. */
export async function validateProgram(argv: readonly string[], context: ReloadContext): Promise<readonly string[]> {
  const searchPath = context.searchPath ?? systemSearchPath;
  const [name] = argv;
  const found = name !== undefined && (await findProgram(name, searchPath)) !== null;
  return found ? [] : [programProblem(name, searchPath)];
}
