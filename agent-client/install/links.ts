import type { FileName } from "./material.ts";
import { InstallError, type Target } from "./target.ts";

export type LinkState = "right" | "absent" | "ours-elsewhere" | "file" | "foreign-link" | "directory" | "no-parent";

export interface LinkReport {
  readonly path: string;
  readonly file: FileName;
  readonly state: LinkState;
}

/** What is at each configured path now. Changes nothing. */
export async function inspectLinks(target: Target): Promise<readonly LinkReport[]> {
  throw new InstallError(`not written yet ${target.directory}`);
}

/** Says why `ensureLinks` would refuse, or null when it would not. */
export function linkProblem(report: LinkReport, options: { adopt: boolean }): string | null {
  return `not written yet ${report.path} ${options.adopt}`;
}

/** Makes each configured path a link to `<directory>/current/<file>`. @throws InstallError */
export async function ensureLinks(
  target: Target,
  options: { adopt: boolean },
): Promise<{ made: readonly string[]; adopted: readonly { path: string; movedTo: string }[] }> {
  throw new InstallError(`not written yet ${target.directory} ${options.adopt}`);
}
