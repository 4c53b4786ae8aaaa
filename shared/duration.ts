import { AppError } from "./problems.ts";

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const pattern = /^(\d{1,9})(ms|s|m|h|d|w)$/;

/**
 * Milliseconds of a duration written as in configuration and on the command line: `30d`, `12h`, `90s`, `500ms`.
 * @throws AppError `request-invalid`
 */
export function parseDuration(text: string): number {
  const match = pattern.exec(text);
  const unit = match?.[2] === undefined ? undefined : unitMs[match[2]];
  if (match?.[1] === undefined || unit === undefined) {
    throw new AppError(
      "request-invalid",
      `"${text.slice(0, 40)}" is not a duration; write a whole number and a unit: 90s, 15m, 12h, 30d`,
    );
  }
  return Number(match[1]) * unit;
}

/** The shortest spelling that `parseDuration` reads back to the same value. */
export function formatDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const size = unitMs[unit];
    if (size !== undefined && ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}
