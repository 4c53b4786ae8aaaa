/** `newleaf audit export`, and reading such a copy: rows as they are hashed, with the checkpoints and issuers that verify them. */
import { once } from "node:events";
import { createReadStream, createWriteStream, type ReadStream, type WriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { AppError } from "@newleaf/shared/problems";
import type { Command } from "commander";
import type { AuditRow } from "../../store/audit.ts";
import type { AdminClient } from "../admin-client.ts";
import { readingCommand, wholeNumber, withClient } from "../admin-command.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";
import { systemCause } from "../system-error.ts";

/** A line of a copy. */
export type CopyLine =
  | { readonly kind: "row"; readonly row: AuditRow }
  /** PEM. */
  | { readonly kind: "issuer"; readonly certificate: string; readonly place: string }
  /** The line itself. */
  | { readonly kind: "checkpoint"; readonly text: string; readonly place: string };

export interface Witnesses {
  readonly checkpoints: readonly { readonly no: number; readonly line: string }[];
  /** PEM certificates. */
  readonly issuers: readonly { readonly id: string; readonly certificate: string }[];
}

const rowsPerRequest = 1000;

export function addAuditExport(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "export",
    summary: "every row, oldest first, one JSON object a line, with the checkpoints and issuers that verify them",
    examples: [
      "newleaf audit export > audit.jsonl",
      "newleaf audit export --out audit-2.jsonl --after 120000",
      "cat audit.jsonl audit-2.jsonl > all.jsonl && newleaf audit verify --file all.jsonl",
    ],
    notes:
      "Lines with `seq` and `actor` are rows, lines with `signature` checkpoints, lines with `certificate` the issuers that signed them.",
  })
    .option("--out <file>", "write to a file (0600) instead of stdout")
    .option("--after <seq>", "only rows after this one", wholeNumber)
    .action(
      withClient<{ readonly out?: string; readonly after?: number }>(terminal, async ({ client, options }) => {
        const lines = copyLines(client, options.after ?? 0);
        if (options.out === undefined) for await (const line of lines) terminal.out(line);
        else await pipeline(Readable.from(lines), await created(options.out));
      }),
    );
}

/** One object on a line. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

async function* copyLines(client: AdminClient, after: number): AsyncGenerator<string> {
  const { issuers, checkpoints } = await witnessesOf(client);
  for (const { id, certificate } of issuers) yield jsonLine({ issuer: id, certificate });
  for (const { line } of checkpoints) yield `${line}\n`;
  for await (const page of chainOf(client, after)) yield page.map(jsonLine).join("");
}

/** The service's rows, page by page: the log may be long. */
export async function* chainOf(client: AdminClient, after = 0): AsyncGenerator<readonly AuditRow[]> {
  let seq = after;
  while (true) {
    const { rows } = await client.get<{ readonly rows: readonly AuditRow[] }>("/v1/audit/chain", {
      after: seq,
      limit: rowsPerRequest,
    });
    const last = rows.at(-1);
    if (last === undefined) return;
    yield rows;
    seq = last.seq;
  }
}

/** The service's own checkpoints, and its issuers. */
export async function witnessesOf(client: AdminClient): Promise<Witnesses> {
  const checkpoints: Witnesses["checkpoints"][number][] = [];
  for (;;) {
    const after = checkpoints.at(-1)?.no ?? 0;
    const page = await client.get<Witnesses>("/v1/audit/checkpoints", { after, limit: rowsPerRequest });
    checkpoints.push(...page.checkpoints);
    if (page.checkpoints.length < rowsPerRequest) return { checkpoints, issuers: page.issuers };
  }
}

/**
 * The lines of a copy.
 * @throws UsageError when it cannot be read or is empty; AppError conflict for a line that is none of a copy
 */
export async function* linesOf(file: string): AsyncGenerator<CopyLine> {
  let number = 0;
  for await (const line of textLines(file)) {
    number += 1;
    if (line.trim() !== "") yield copyLine(line, `${file}, line ${number}`);
  }
  if (number === 0) throw new UsageError(`${file} is empty: that is no copy of an audit log`);
}

/** @throws UsageError when the file cannot be read */
export async function* textLines(file: string): AsyncGenerator<string> {
  yield* createInterface({ input: await readable(file), crlfDelay: Infinity });
}

function copyLine(line: string, place: string): CopyLine {
  try {
    const value = JSON.parse(line) as Readonly<Record<string, unknown>> | null;
    if (typeof value === "object" && value !== null) {
      if (typeof value["certificate"] === "string") return { kind: "issuer", certificate: value["certificate"], place };
      if ("signature" in value) return { kind: "checkpoint", text: line, place };
      if (Number.isSafeInteger(value["seq"])) return { kind: "row", row: value as unknown as AuditRow };
    }
  } catch {
    // Said below.
  }
  throw new AppError(
    "conflict",
    `${place}, is no row of an audit log: it was altered or cut off, or it is another file`,
  );
}

async function readable(file: string): Promise<ReadStream> {
  const stream = createReadStream(file);
  try {
    await once(stream, "ready");
    return stream;
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${systemCause(error)})`);
  }
}

/** A new file: a log is not written over another. */
async function created(file: string): Promise<WriteStream> {
  const stream = createWriteStream(file, { mode: 0o600, flags: "wx" });
  try {
    await once(stream, "ready");
    return stream;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new UsageError(
      code === "EEXIST" ? `${file} exists; --out writes only new files` : `--out ${file} cannot be written (${code})`,
    );
  }
}
