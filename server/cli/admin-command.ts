/** What every command of the admin API has in common: who speaks, to which service, and how it is shown. */
import { parseDuration } from "@newleaf/shared/duration";
import { AppError } from "@newleaf/shared/problems";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type AdminClient, adminClient, type Query } from "./admin-client.ts";
import type { Connection } from "./operator/session.ts";
import { confirm, type Terminal } from "./terminal.ts";

export interface AdminOptions extends Connection {
  readonly json?: boolean;
  /** Of a listing command. */
  readonly csv?: boolean;
  readonly yes?: boolean;
}

export interface AdminContext<Options> {
  readonly client: AdminClient;
  readonly terminal: Terminal;
  readonly options: Options;
  readonly json: boolean;
  /** Asks before harm; see `confirm`. */
  confirm(question: string): Promise<boolean>;
}

export interface CommandText {
  /** Name and arguments, as commander writes them: `show <id>`. */
  readonly usage: string;
  readonly summary: string;
  readonly examples: readonly string[];
  /** More to know, shown in the help. */
  readonly notes?: string;
}

/** A command that reads, with `--json`. */
export function readingCommand(parent: Command, text: CommandText): Command {
  return plainCommand(parent, text).option("--json", "print what the API returns, as JSON");
}

/** A command that reads a list, with `--json` and `--csv`. */
export function listingCommand(parent: Command, text: CommandText): Command {
  const csv = new Option("--csv", "print every field of the whole list as CSV, for a spreadsheet");
  return readingCommand(parent, text).addOption(csv.conflicts(["json", "follow"]));
}

/** What `--csv` prints: all pages, or the first `limit` rows, with one line of headings. */
export async function printCsv(
  terminal: Terminal,
  client: AdminClient,
  path: string,
  query: Query = {},
  limit = Infinity,
): Promise<void> {
  for await (const lines of client.csv(path, query, limit)) terminal.out(lines);
}

/** A command that destroys or decides: asks y/N, takes `--yes`. */
export function harmfulCommand(parent: Command, text: CommandText): Command {
  return readingCommand(parent, text).option("--yes", "do not ask");
}

/** A group of commands that does nothing by itself. */
export function commandGroup(program: Command, name: string, summary: string): Command {
  return program.command(name).summary(summary).description(summary);
}

/**
 * The function commander calls, from one that gets the client, the options and the positional arguments.
 * `Options` is what the command's own options parse to.
 */
export function withClient<Options = unknown>(
  terminal: Terminal,
  work: (context: AdminContext<AdminOptions & Options>, ...positional: string[]) => Promise<void>,
): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    // commander calls with the positional arguments, then the options, then the command.
    const command = args.at(-1) as Command;
    const options: AdminOptions & Options = command.opts();
    const context: AdminContext<AdminOptions & Options> = {
      client: adminClient(terminal, options),
      terminal,
      options,
      json: options.json === true,
      confirm: (question) => confirm(terminal, question, options.yes),
    };
    await work(context, ...(args.slice(0, -2) as string[]));
  };
}

/** For options that may be given more than once. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** An option's duration, checked here so that a slip is wrong usage; sent as it was written. */
export function durationText(value: string): string {
  try {
    parseDuration(value);
    return value;
  } catch (error) {
    throw new InvalidArgumentError(error instanceof AppError ? error.message : "not a duration");
  }
}

/** A moment of the past, as ISO 8601 or as a duration ago; checked here so that a slip is wrong usage. */
export function pastText(value: string): string {
  if (/^\d{4}-/.test(value) && !Number.isNaN(Date.parse(value))) return value;
  try {
    parseDuration(value);
    return value;
  } catch {
    throw new InvalidArgumentError("write a time (2026-11-20T17:00:00Z) or how long ago (15m, 12h, 30d)");
  }
}

/** What is searched for. The empty text is in everything: then it was left out by mistake. */
export function searchText(value: string): string {
  if (value === "") throw new InvalidArgumentError("It is empty");
  return value;
}

/** For options with a closed set of values, so that a slip is wrong usage. */
export function oneOf(...choices: readonly string[]): (value: string) => string {
  const parse = (value: string): string => {
    if (choices.includes(value)) return value;
    throw new InvalidArgumentError(`It is one of ${choices.join(", ")}`);
  };
  choicesOfParsers.set(parse, choices);
  return parse;
}

/** Not commander's own `choices`: those would stand in the help a second time. */
const choicesOfParsers = new WeakMap<object, readonly string[]>();

/** What an option's parser, made by `oneOf`, takes. */
export function choicesOf(parser: object): readonly string[] {
  return choicesOfParsers.get(parser) ?? [];
}

/** A fingerprint as tools print it: upper case, colons and a missing `sha256:` are understood. */
export function fingerprintText(value: string): string {
  const hex = value
    .replace(/^sha256:/i, "")
    .replaceAll(":", "")
    .toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(hex)) throw new InvalidArgumentError("A fingerprint is sha256: and 64 hex digits");
  return `sha256:${hex}`;
}

export function wholeNumber(value: string): number {
  if (!/^[1-9]\d{0,8}$/.test(value)) throw new InvalidArgumentError("a whole number above 0 is needed");
  return Number(value);
}

function plainCommand(parent: Command, { usage, summary, examples, notes }: CommandText): Command {
  const help = `${notes === undefined ? "" : `\n${notes}\n`}\nExamples:\n${examples.map((line) => `  ${line}`).join("\n")}\n`;
  return parent
    .command(usage)
    .summary(summary)
    .description(summary)
    .option("--data <dir>", "data directory of the service (default: NEWLEAF_DATA, ./newleaf-data, /var/lib/newleaf)")
    .option(
      "--as <operator>",
      "who to act as: an operator's id, a login, or a directory with key.pem and chain.pem (default: the only one there is)",
    )
    .option("--server <url>", "admin listener of a service elsewhere, https://ca.claw.internal:8445")
    .option("--roots <file>", "with --server: PEM file of the root to trust (default: roots.pem of the data directory)")
    .addHelpText("after", help);
}
