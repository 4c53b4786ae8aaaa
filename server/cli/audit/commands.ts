/** `newleaf audit …` */
import { setTimeout } from "node:timers/promises";
import { NetworkError } from "@newleaf/shared/http-client";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import type { Command } from "commander";
import type { AuditRow } from "../../store/audit.ts";
import { type AdminClient, adminClient, type Query } from "../admin-client.ts";
import {
  type AdminOptions,
  commandGroup,
  listingCommand,
  pastText,
  printCsv,
  wholeNumber,
  withClient,
} from "../admin-command.ts";
import { addAuditExport, jsonLine } from "./copy.ts";
import { addAuditVerify } from "./verify.ts";
import { asJson, asTable, printable } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";

/** As listed: times are for people. */
interface AuditLine extends Omit<AuditRow, "at"> {
  readonly at: string;
}

interface ListOptions extends AdminOptions {
  readonly actor?: string;
  readonly action?: string;
  readonly target?: string;
  readonly identity?: string;
  readonly request?: string;
  readonly since?: string;
  readonly until?: string;
  readonly after?: number;
  readonly limit?: number;
  readonly follow?: boolean;
}

const defaultLimit = 100;
/** Rows shown before the first new one. */
const followLimit = 10;
const pollMs = 1_000;
/** A long watch outlives an operator's certificate: it is read, and renewed when due, as often as this. */
const reopenMs = 3_600_000;
const pageSize = 500;

export function addAuditCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "audit", "who did what to which: an append-only, hash-chained log");
  addList(group, terminal);
  addAuditVerify(group, terminal);
  addAuditExport(group, terminal);
}

function addList(group: Command, terminal: Terminal): void {
  listingCommand(group, {
    usage: "list",
    summary: "the newest rows, or with --follow those that come",
    examples: [
      "newleaf audit list --identity gateway-1 --since 7d",
      "newleaf audit list --action certificate. --actor ann@operators",
      "newleaf audit list --action request.refused --limit 500 --json",
      "newleaf audit list --follow --json | jq .action",
    ],
    notes:
      "Times are ISO 8601 or durations ago (24h). With --follow the last rows are shown oldest first, then each new one as it comes, also\nafter the service was started again; with --json one object a line.",
  })
    .option("--actor <id>", "who did it")
    .option("--action <action>", "what was done, such as certificate.revoked; `certificate.` for all that begin so")
    .option("--target <target>", "what it was done to: an identity, serial, lineage, token")
    .option("--identity <id>", "whom it concerned, whatever it was done to")
    .option("--request <id>", "the X-Request-Id of the answer")
    .option("--since <time>", "at this time or later", pastText)
    .option("--until <time>", "before this time", pastText)
    .option("--after <seq>", "rows after this one, oldest first", wholeNumber)
    .option(
      "--limit <count>",
      "at most this many (default: 100; with --follow 10 before the first new one)",
      wholeNumber,
    )
    .option("--follow", "go on with new rows until interrupted")
    .action(
      withClient<ListOptions>(terminal, async ({ client, options, json }) => {
        if (options.follow === true) return followLog(terminal, client, options, json);
        const query = { ...filterOf(options), after: options.after };
        if (options.csv === true) return printCsv(terminal, client, "/v1/audit", query, options.limit);
        const items = await client.list<AuditLine>("/v1/audit", query, options.limit ?? defaultLimit);
        terminal.out(json ? asJson(items) : asTable(headings, items.map(cellsOf), "No row matches."));
      }),
    );
}

const headings = ["SEQ", "AT", "ACTOR", "ACTION", "TARGET", "DETAIL"];

function cellsOf(item: AuditLine): readonly string[] {
  const detail = item.detail === undefined ? "" : JSON.stringify(item.detail);
  const shown = detail.length > 100 ? `${detail.slice(0, 99)}…` : detail;
  return [String(item.seq), item.at, item.actor, item.action, item.target ?? "-", shown];
}

function filterOf({ actor, action, target, identity, request, since, until }: ListOptions): Query {
  return { actor, action, target, identity, requestId: request, since, until };
}

/** Prints what is there, then what comes. Ends with the process. */
async function followLog(terminal: Terminal, client: AdminClient, options: ListOptions, json: boolean): Promise<void> {
  if (options.until !== undefined) throw new UsageError("--follow goes on until it is interrupted; leave --until out");
  const print = (item: AuditLine): void =>
    terminal.out(json ? jsonLine(item) : `${cellsOf(item).map(printable).join("  ")}\n`);
  const filter = filterOf(options);
  let after = options.after;
  if (after === undefined) {
    const newest = await newestSeq(client);
    const shown = await client.list<AuditLine>("/v1/audit", filter, options.limit ?? followLimit);
    for (const item of shown.toReversed()) print(item);
    after = Math.max(newest, shown[0]?.seq ?? 0);
  }
  for await (const item of rowsAfter(terminal, options, filter, after)) print(item);
}

/** Every matching row after one, for ever. A service that is away for a while is waited for. */
async function* rowsAfter(
  terminal: Terminal,
  options: ListOptions,
  filter: Query,
  start: number,
): AsyncGenerator<AuditLine> {
  let after = start;
  let client = adminClient(terminal, options);
  let opened = performance.now();
  let isAway = false;
  for (;;) {
    try {
      // Read before the rows: what matches none of the filters has not to be gone through again.
      const newest = await newestSeq(client);
      for await (const item of pagesAfter(client, filter, after)) {
        yield item;
        after = item.seq;
      }
      after = Math.max(after, newest);
      if (isAway) terminal.err("The service answers again.\n");
      isAway = false;
    } catch (error) {
      if (!isPassing(error)) throw error;
      if (!isAway) terminal.err(`${error instanceof Error ? error.message : String(error)} Waiting for it.\n`);
      isAway = true;
    }
    if (isAway || performance.now() - opened > reopenMs) {
      // Another start of the service may listen on other ports.
      client = adminClient(terminal, options);
      opened = performance.now();
    }
    await setTimeout(pollMs);
  }
}

async function* pagesAfter(client: AdminClient, filter: Query, after: number): AsyncGenerator<AuditLine> {
  let cursor: string | null = null;
  do {
    const page: { readonly items: readonly AuditLine[]; readonly nextCursor: string | null } = await client.get(
      "/v1/audit",
      { ...filter, after, limit: pageSize, cursor: cursor ?? undefined },
    );
    yield* page.items;
    cursor = page.nextCursor;
  } while (cursor !== null);
}

async function newestSeq(client: AdminClient): Promise<number> {
  const [newest] = await client.list<AuditLine>("/v1/audit", {}, 1);
  return newest?.seq ?? 0;
}

const passing: ReadonlySet<ProblemCode> = new Set(["not-found", "internal", "issuer-unavailable", "rate-limited"]);

/** `not-found` is what a service says that has not written its addresses yet; no route of the log answers it. */
function isPassing(error: unknown): boolean {
  return error instanceof NetworkError || (error instanceof AppError && passing.has(error.code));
}
