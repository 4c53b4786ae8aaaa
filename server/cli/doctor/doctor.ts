/** `newleaf doctor`: the service itself, looked at from its own host. Works while it is stopped, too. */
import { AppError } from "@newleaf/shared/problems";
import { resolveDataDir } from "../../config.ts";
import { isFounded } from "../../data-directory.ts";
import { asJson, printable } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { type Check, checks } from "./checks.ts";
import type { Facts } from "./facts.ts";
import type { Finding, Grade } from "./finding.ts";
import { gatherFacts } from "./gather.ts";

export interface DoctorOptions {
  readonly data?: string;
  readonly strict?: boolean;
  readonly json?: boolean;
}

export interface Diagnosis {
  readonly findings: readonly (Finding & { readonly check: string })[];
  /** Checks that had nothing to look at, and why. */
  readonly leftOut: readonly { readonly check: string; readonly why: string }[];
  readonly failures: number;
  readonly warnings: number;
}

/**
 * @throws AppError not-found (nothing was founded there), conflict (a check failed; with `strict` also when one warns)
 */
export async function doctor(terminal: Terminal, options: DoctorOptions): Promise<void> {
  const dataDir = resolveDataDir(options.data, terminal.env);
  if (!isFounded(dataDir)) {
    throw new AppError(
      "not-found",
      `There is no certification authority in ${dataDir}. doctor runs on the service's host: say where its data directory is with --data`,
    );
  }
  const diagnosis = diagnose(await gatherFacts(dataDir, terminal.env, terminal.clock.now()));
  const { failures, warnings } = diagnosis;
  terminal.out(options.json === true ? asJson(diagnosis) : diagnosisText(diagnosis));
  const failed = counted(failures, "failure");
  if (failures > 0) throw new AppError("conflict", `doctor found ${failed}`);
  if (options.strict === true && warnings > 0)
    throw new AppError("conflict", `doctor found ${counted(warnings, "warning")}, which --strict does not let pass`);
}

export function diagnose(facts: Facts): Diagnosis {
  const findings: Diagnosis["findings"][number][] = [];
  const leftOut: Diagnosis["leftOut"][number][] = [];
  for (const check of checks) {
    const found = check.look(facts);
    if (found === null) leftOut.push({ check: check.name, why: whyLeftOut(check, facts) });
    else findings.push(...found.map((finding) => ({ check: check.name, ...finding })));
  }
  const count = (grade: Grade) => findings.filter((finding) => finding.grade === grade).length;
  return { findings, leftOut, failures: count("failure"), warnings: count("warning") };
}

function whyLeftOut({ needs }: Check, { service, configuration, database }: Facts): string {
  if (needs === "service") return service === null ? "the service is stopped" : "the service does not answer";
  if (needs === "configuration" && configuration.config === null) return "the configuration does not hold";
  if (typeof database === "string") return "the database cannot be read";
  return "there is nothing to go by yet";
}

const marks: Readonly<Record<Grade, string>> = { ok: "ok  ", warning: "warn", failure: "FAIL" };

function diagnosisText({ findings, leftOut, failures, warnings }: Diagnosis): string {
  const width = Math.max(...[...findings, ...leftOut].map(({ check }) => check.length));
  const lines = findings.flatMap(({ grade, check, says, why, fix }) => [
    `${marks[grade]}  ${check.padEnd(width)}  ${says.replaceAll(/\s*\n\s*/g, " ")}`,
    ...(why === null ? [] : [`${" ".repeat(width + 8)}why: ${why}`]),
    ...(fix === null ? [] : [`${" ".repeat(width + 8)}do:  ${fix}`]),
  ]);
  const without = leftOut.map(({ check, why }) => `-     ${check.padEnd(width)}  left out: ${why}`);
  const good = findings.length - failures - warnings;
  const sum = `${good} ok, ${counted(warnings, "warning")}, ${counted(failures, "failure")}`;
  return [...lines, ...without, "", sum].map((line) => `${printable(line)}\n`).join("");
}

function counted(count: number, one: string): string {
  return `${count} ${count === 1 ? one : `${one}s`}`;
}
