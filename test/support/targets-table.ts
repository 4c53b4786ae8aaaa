/** The table of docs/gateways/README.md, from the rows that the targets' tests leave. */
import type { TargetRow } from "./target.ts";

const begin = "<!-- table: begin -->";
const end = "<!-- table: end -->";

const columns = [
  "target",
  "version",
  "told by",
  "renewed → served",
  "new connections failed",
  "kept connections reset",
  "WebSockets cut",
  "revoked client",
  "down by the bad set",
];

/** Whether the rows of targets that were not run now are kept. */
export type Others = "kept" | "dropped";

/** The document with its table replaced. @throws Error when it has no place for one */
export function withTable(document: string, rows: readonly TargetRow[], others: Others = "dropped"): string {
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the document has no ${begin} … ${end}`);
  const now = rows.map(cellsOf);
  const known = others === "kept" ? linesOf(document.slice(from, to)) : [];
  const rest = known.filter((line) => now.every((cells) => nameOf(cells) !== nameOf(line)));
  return `${document.slice(0, from + begin.length)}\n${tableOf([...now, ...rest])}\n${document.slice(to)}`;
}

/** One line for each row, by name. */
function tableOf(lines: readonly (readonly string[])[]): string {
  const sorted = lines.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  return [columns, columns.map(() => "---"), ...sorted].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** The lines below the heading, cell by cell. */
function linesOf(table: string): readonly (readonly string[])[] {
  const lines = table.split("\n").filter((line) => line.startsWith("| "));
  return lines.slice(2).map((line) => line.slice(2, -2).split(" | "));
}

function cellsOf(row: TargetRow): readonly string[] {
  return [row.target, row.version, row.how, ...figuresOf(row)];
}

function nameOf([target = "", , how = ""]: readonly string[]): string {
  return `${target} ${how}`.toLowerCase();
}

function figuresOf(row: TargetRow): readonly string[] {
  const sorted = row.seconds.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const { newConnections, kept, webSockets, revokedRefusedSeconds } = row;
  return [
    `${median.toFixed(1)} s, ${(sorted.at(-1) ?? 0).toFixed(1)} s`,
    share(newConnections.failed, newConnections.made),
    kept === null ? "–" : share(kept.resets, kept.requests),
    webSockets === null ? "–" : share(webSockets.cut, webSockets.opened),
    row.readsCrl === false
      ? "**let in**: reads no CRL"
      : revokedRefusedSeconds === null
        ? "–"
        : `refused after ${revokedRefusedSeconds.toFixed(1)} s`,
    row.badSetDownSeconds < 0.1 ? "0" : `${row.badSetDownSeconds.toFixed(1)} s`,
  ];
}

/** `0 of 1 234`: zeros are what one looks for, everything else stands out. */
function share(part: number, whole: number): string {
  const text = `${part} of ${whole.toLocaleString("en-US").replaceAll(",", " ")}`;
  return part === 0 ? text : `**${text}**`;
}
