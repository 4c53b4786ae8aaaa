/** How answers look on a terminal: tables for lists, YAML for one thing, JSON for programs. */
import { stringify } from "yaml";

export function asJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** One thing, all its fields. */
export function asRecord(value: unknown): string {
  return stringify(value, { lineWidth: 0, nullStr: "none" });
}

/** Columns under their headings, as wide as they need; `nothing` stands for an empty table. */
export function asTable(headings: readonly string[], rows: readonly (readonly string[])[], nothing: string): string {
  if (rows.length === 0) return `${nothing}\n`;
  const clean = [headings, ...rows].map((row) => row.map(printable));
  const widths = headings.map((_, column) => Math.max(...clean.map((row) => [...(row[column] ?? "")].length)));
  return clean
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** What others wrote (claims, labels, names) must not move the operator's cursor or colour the screen. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, "?");
}

/** `2027-03-05 14:02 (in 12d)`. */
export function moment(iso: string | null | undefined, now = Date.now()): string {
  if (iso === null || iso === undefined) return "-";
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return iso;
  const distance = span(Math.abs(at - now));
  return `${new Date(at).toISOString().slice(0, 16).replace("T", " ")} (${at >= now ? `in ${distance}` : `${distance} ago`})`;
}

function span(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)}m`;
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}
