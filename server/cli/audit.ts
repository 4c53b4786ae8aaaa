/** `newleaf audit …` */
import { once } from "node:events";
import { createReadStream, createWriteStream, type ReadStream, type WriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { AppError } from "@newleaf/shared/problems";
import { type AuditVerdict, genesisHash, verifyAuditChain } from "../audit-chain.ts";
import type { AuditRow } from "../store/audit.ts";
import type { AdminClient } from "./admin-client.ts";
import { commandGroup, readingCommand, wholeNumber, withClient } from "./admin-command.ts";
import { asJson, asTable } from "./output.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

/** As listed: times are for people. */
interface AuditLine extends Omit<AuditRow, "at"> {
  readonly at: string;
}

const rowsPerRequest = 1000;

export function addAuditCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "audit", "who did what to which: an append-only, hash-chained log");
  addList(group, terminal);
  readingCommand(group, {
    usage: "verify",
    summary: "recompute the hash chain, of the service or of an exported copy",
    examples: ["newleaf audit verify", "newleaf audit verify --file audit.jsonl"],
    notes:
      "Exit code 1 when a row was altered, removed or put in. Note the last hash somewhere else: with it a cut-off end shows, too.",
  })
    .option("--file <file>", "an exported copy instead of the service")
    .action(
      withClient<{ readonly file?: string }>(terminal, async ({ client, options, json }) => {
        const verdict = await verify(options.file === undefined ? chainOf(client) : linesOf(options.file));
        if (json) terminal.out(asJson(verdict));
        if (!verdict.ok)
          throw new AppError("conflict", `The audit chain is broken at row ${verdict.seq}: ${verdict.reason}`);
        if (!json)
          terminal.out(
            `The chain holds: ${verdict.rows} rows, the last one ${verdict.lastSeq ?? 0} with hash ${verdict.lastHash}\n`,
          );
      }),
    );
  readingCommand(group, {
    usage: "export",
    summary: "every row, oldest first, one JSON object a line",
    examples: ["newleaf audit export > audit.jsonl", "newleaf audit export --out audit.jsonl --after 120000"],
  })
    .option("--out <file>", "write to a file (0600) instead of stdout")
    .option("--after <seq>", "only rows after this one", wholeNumber)
    .action(
      withClient<{ readonly out?: string; readonly after?: number }>(terminal, async ({ client, options }) => {
        const lines = jsonLines(chainOf(client, options.after ?? 0));
        if (options.out === undefined) for await (const line of lines) terminal.out(line);
        else await pipeline(Readable.from(lines), await created(options.out));
      }),
    );
}

interface ListOptions {
  readonly actor?: string;
  readonly action?: string;
  readonly target?: string;
  readonly limit: number;
}

function addList(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "list",
    summary: "the newest rows",
    examples: [
      "newleaf audit list --target gateway-1",
      "newleaf audit list --action request.refused --limit 500 --json",
    ],
  })
    .option("--actor <id>", "who did it")
    .option("--action <action>", "what was done, such as certificate.revoked")
    .option("--target <target>", "what it was done to: an identity, serial, lineage, token")
    .option("--limit <count>", "at most this many", wholeNumber, 100)
    .action(
      withClient<ListOptions>(terminal, async ({ client, options, json }) => {
        const { actor, action, target, limit } = options;
        const items = await client.list<AuditLine>("/v1/audit", { actor, action, target }, limit);
        const rows = items.map((item) => [
          String(item.seq),
          item.at,
          item.actor,
          item.action,
          item.target ?? "-",
          item.detail === undefined ? "" : JSON.stringify(item.detail).slice(0, 100),
        ]);
        terminal.out(
          json ? asJson(items) : asTable(["SEQ", "AT", "ACTOR", "ACTION", "TARGET", "DETAIL"], rows, "No row matches."),
        );
      }),
    );
}

/** Page by page: the log may be long. */
async function verify(pages: AsyncIterable<readonly AuditRow[]>): Promise<AuditVerdict> {
  let hash = genesisHash;
  let lastSeq = 0;
  let rows = 0;
  for await (const page of pages) {
    const [first] = page;
    if (first === undefined) continue;
    if (first.seq !== lastSeq + 1) return { ok: false, seq: first.seq, reason: `row ${lastSeq + 1} is missing` };
    const verdict = verifyAuditChain(page, hash);
    if (!verdict.ok) return verdict;
    hash = verdict.lastHash;
    lastSeq = verdict.lastSeq ?? lastSeq;
    rows += verdict.rows;
  }
  return { ok: true, rows, lastSeq, lastHash: hash };
}

async function* chainOf(client: AdminClient, after = 0): AsyncGenerator<readonly AuditRow[]> {
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

async function* linesOf(file: string): AsyncGenerator<readonly AuditRow[]> {
  let page: AuditRow[] = [];
  let number = 0;
  for await (const line of createInterface({ input: await readable(file), crlfDelay: Infinity })) {
    number += 1;
    if (line.trim() === "") continue;
    page.push(rowOf(line, `${file}, line ${number}`));
    if (page.length < rowsPerRequest) continue;
    yield page;
    page = [];
  }
  if (number === 0) throw new UsageError(`${file} is empty: that is no copy of an audit log`);
  yield page;
}

async function readable(file: string): Promise<ReadStream> {
  const stream = createReadStream(file);
  try {
    await once(stream, "ready");
    return stream;
  } catch (error) {
    throw new UsageError(`--file ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

function rowOf(line: string, place: string): AuditRow {
  try {
    const row = JSON.parse(line) as AuditRow;
    if (typeof row === "object" && row !== null && Number.isSafeInteger(row.seq)) return row;
  } catch {
    // Said below.
  }
  throw new AppError(
    "conflict",
    `${place}, is no row of an audit log: it was altered or cut off, or it is another file`,
  );
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

async function* jsonLines(pages: AsyncIterable<readonly AuditRow[]>): AsyncGenerator<string> {
  for await (const page of pages) yield page.map((row) => `${JSON.stringify(row)}\n`).join("");
}
