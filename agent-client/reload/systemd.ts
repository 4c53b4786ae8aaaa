import { findProgram, programProblem, runProgram, systemSearchPath } from "./run-program.ts";
import type { ReloadContext, ReloadResult, SystemdStrategy } from "./strategy.ts";

/** systemd.unit(5): at most 255 characters of these. None starts with a dash, so none can pass for an option. */
const unitName = /^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}$/;
const showTimeoutMs = 5000;

/** `systemctl reload UNIT`. A non-root agent needs a polkit rule for this one unit and verb. */
export async function reloadBySystemd(strategy: SystemdStrategy, context: ReloadContext): Promise<ReloadResult> {
  const wrong = unitProblem(strategy.unit);
  if (wrong !== null) return { ok: false, detail: wrong };
  const { ok, detail, output } = await runProgram(["systemctl", "--no-ask-password", "reload", strategy.unit], {
    timeoutMs: strategy.timeoutMs,
    searchPath: context.searchPath ?? systemSearchPath,
    signal: context.signal,
  });
  // "Job for nginx.service failed …": ExecReload= ran. Without a job there was no such unit, no systemd, no permission.
  const refused = !ok && output.includes("Job for ");
  return refused ? { ok, refused, detail } : { ok, detail };
}

export function describeSystemd(strategy: SystemdStrategy): string {
  return `systemctl reload ${strategy.unit}`;
}

export async function validateSystemd(strategy: SystemdStrategy, context: ReloadContext): Promise<readonly string[]> {
  const wrong = unitProblem(strategy.unit);
  if (wrong !== null) return [wrong];
  const searchPath = context.searchPath ?? systemSearchPath;
  if ((await findProgram("systemctl", searchPath)) === null) return [programProblem("systemctl", searchPath)];
  const shown = await runProgram(["systemctl", "show", "--property=LoadState,CanReload,ActiveState", strategy.unit], {
    timeoutMs: showTimeoutMs,
    searchPath,
    signal: context.signal,
  });
  if (!shown.ok) return [`systemd cannot be asked about ${strategy.unit}: ${shown.detail}`];
  return judge(strategy.unit, shown.output);
}

function judge(unit: string, shown: string): readonly string[] {
  const property = (name: string): string | undefined => new RegExp(`\\b${name}=(\\S*)`).exec(shown)?.[1];
  const loaded = property("LoadState");
  if (loaded !== "loaded") {
    return [`systemd has no unit ${unit} that it could load (LoadState=${loaded ?? "unknown"}): correct the name`];
  }
  const problems: string[] = [];
  const active = property("ActiveState");
  if (active !== "active" && active !== "reloading") {
    problems.push(`${unit} is not running (ActiveState=${active ?? "unknown"}): start it`);
  }
  // CanReload is "no" for every unit that is not running.
  else if (property("CanReload") !== "yes") {
    problems.push(`${unit} cannot be reloaded: its unit has no ExecReload=, add one or use another strategy`);
  }
  return problems;
}

function unitProblem(unit: string): string | null {
  return unitName.test(unit)
    ? null
    : `"${unit.slice(0, 80)}" is not the name of a systemd unit: write it like nginx.service`;
}
