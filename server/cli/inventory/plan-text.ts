/** A plan that reads like a diff: what comes (+), goes (-) and changes (~), for each identity and each of its fields. */
import type { InventoryChangeAnswer, InventoryPlanAnswer } from "../answers.ts";
import { printable } from "../output.ts";

const signs = { add: "+", change: "~", remove: "-", unchanged: "=" } as const;
/** As one speaks of one value of the list. */
const singular: Readonly<Record<string, string>> = { keys: "key", labels: "label" };

/** The changes, the warnings, and a line that sums up. */
export function planText({ changes, warnings }: InventoryPlanAnswer): string {
  const lines = [
    ...changes.filter((change) => change.kind !== "unchanged").flatMap(changeLines),
    ...warnings.map((warning) => `warning: ${warning}`),
    changes.length === 0 ? "The file lists no identities." : summary(changes),
  ];
  return lines.map((line) => `${printable(line)}\n`).join("");
}

function summary(changes: readonly InventoryChangeAnswer[]): string {
  const count = (kind: InventoryChangeAnswer["kind"]) => changes.filter((change) => change.kind === kind).length;
  const live = changes.reduce((sum, change) => sum + change.liveLeaves, 0);
  const revokes = live === 0 ? "" : ` (revokes ${live} usable certificate${live === 1 ? "" : "s"})`;
  return `Plan: ${count("add")} to add, ${count("change")} to change, ${count("remove")} to remove${revokes}, ${count("unchanged")} unchanged.`;
}

function changeLines(change: InventoryChangeAnswer): string[] {
  const revokes = change.liveLeaves === 1 ? "1 usable certificate" : `${change.liveLeaves} usable certificates`;
  const isHarm = change.kind === "remove" && change.liveLeaves > 0;
  const head = `${signs[change.kind]} ${change.id}${isHarm ? `  (revokes ${revokes})` : ""}`;
  return [head, ...change.differences.flatMap(fieldLines)];
}

function fieldLines({ field, from, to }: InventoryChangeAnswer["differences"][number]): string[] {
  const name = singular[field] ?? field;
  if (Array.isArray(from) || Array.isArray(to)) {
    const [before, after] = [textsOf(from), textsOf(to)];
    return [
      ...before.filter((text) => !after.includes(text)).map((text) => `    - ${name}: ${text}`),
      ...after.filter((text) => !before.includes(text)).map((text) => `    + ${name}: ${text}`),
    ];
  }
  if (isRecord(from) && isRecord(to)) {
    return [...new Set([...Object.keys(from), ...Object.keys(to)])].toSorted().flatMap((key) => {
      if (from[key] === to[key]) return [];
      return fieldLine(name, pair(key, from[key]), pair(key, to[key]));
    });
  }
  return fieldLine(name, scalar(from), scalar(to));
}

function fieldLine(name: string, from: string | null, to: string | null): string[] {
  if (from === null) return to === null ? [] : [`    + ${name}: ${to}`];
  return to === null ? [`    - ${name}: ${from}`] : [`    ~ ${name}: ${from} -> ${to}`];
}

function pair(key: string, value: unknown): string | null {
  return typeof value === "string" ? `${key}=${value}` : null;
}

function scalar(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
