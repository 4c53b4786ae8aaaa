import type { ReloadContext, ReloadResult } from "./strategy.ts";

/** Runs the server's own configuration check (`[nginx, -t]`): after the switch, before the server hears of it. Never throws. */
export async function runCheck(argv: readonly string[], context: ReloadContext = {}): Promise<ReloadResult> {
  return { ok: false, detail: `not written yet ${argv.join(" ")} ${context.searchPath ?? ""}` };
}

/** What is wrong with the check on this host; empty when nothing is. Runs nothing. */
export async function validateCheck(argv: readonly string[], context: ReloadContext = {}): Promise<readonly string[]> {
  return [`not written yet ${argv.join(" ")} ${context.searchPath ?? ""}`];
}
