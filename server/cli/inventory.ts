/** `newleaf inventory …` */
import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import type { Command } from "commander";
import { commandGroup, harmfulCommand, readingCommand, withClient } from "./admin-command.ts";
import type { IdentityAnswer, InventoryChangeAnswer, InventoryPlanAnswer } from "./answers.ts";
import { type InventoryFileEntry, parseInventory, writeInventory } from "./inventory-file.ts";
import { asJson, printable } from "./output.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

interface ApplyOptions {
  readonly file: string;
  readonly dryRun?: boolean;
  readonly prune?: boolean;
}

export function addInventoryCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "inventory", "the whole inventory as a file");
  harmfulCommand(group, {
    usage: "apply",
    summary: "make the inventory what a file says",
    examples: [
      "newleaf inventory apply -f inventory.yml --dry-run",
      "newleaf inventory apply -f inventory.yml",
      "newleaf inventory apply -f inventory.yml --prune --yes",
    ],
    notes:
      "Shows the difference first. Removing an identity revokes what it holds and is asked about. Approved keys that were\nspent are not armed again by applying the same file.",
  })
    .requiredOption("-f, --file <file>", "inventory.yml, or - for stdin")
    .option("--dry-run", "only show the difference")
    .option("--prune", "remove what the file does not list (operators stay)")
    .action(
      withClient<ApplyOptions>(terminal, async ({ client, options, confirm, json }) => {
        const identities = await readInventory(options.file);
        const desired = { identities, prune: options.prune === true };
        const plan = await client.post<InventoryPlanAnswer>("/v1/inventory/plan", desired);
        if (!json) terminal.out(planText(plan));
        if (options.dryRun === true) {
          if (json) terminal.out(asJson(plan));
          return;
        }
        const removed = plan.changes.filter((change) => change.kind === "remove");
        const live = removed.reduce((sum, change) => sum + change.liveLeaves, 0);
        if (
          removed.length > 0 &&
          !(await confirm(
            `Remove ${counted(removed.length, "identity", "identities")} and revoke ${counted(live, "usable certificate")}?`,
          ))
        ) {
          return;
        }
        const applied = plan.changes.every((change) => change.kind === "unchanged")
          ? plan
          : await client.post<InventoryPlanAnswer>("/v1/inventory/apply", {
              ...desired,
              ...(live > 0 ? { revokeLive: true } : {}),
            });
        terminal.out(json ? asJson(applied) : "Applied.\n");
      }),
    );
  readingCommand(group, {
    usage: "export",
    summary: "the inventory, without the operators, as a file that apply reads",
    examples: ["newleaf inventory export > inventory.yml"],
  }).action(
    withClient(terminal, async ({ client, json }) => {
      // Operators are not made by an inventory, and never pruned by one.
      const all = await client.list<IdentityAnswer>("/v1/identities");
      const items = all.filter((item) => item.profile !== "operator");
      terminal.out(json ? asJson(items) : writeInventory(items));
    }),
  );
}

async function readInventory(file: string): Promise<readonly InventoryFileEntry[]> {
  let content: string;
  try {
    content = file === "-" ? await readAll(process.stdin) : await readFile(file, "utf8");
  } catch (error) {
    throw new UsageError(`--file ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? "error"})`, {
      cause: error,
    });
  }
  return parseInventory(content, file === "-" ? "stdin" : file);
}

/** One line for each identity that changes, and under it what changes. */
function planText({ changes, warnings }: InventoryPlanAnswer): string {
  const lines = changes.filter((change) => change.kind !== "unchanged").flatMap(changeLines);
  const unchanged = changes.filter((change) => change.kind === "unchanged").length;
  if (unchanged > 0) lines.push(`= ${unchanged} unchanged`);
  if (changes.length === 0) lines.push("The file lists no identities.");
  return [...lines, ...warnings.map((warning) => `warning: ${warning}`)].map((line) => `${printable(line)}\n`).join("");
}

function changeLines(change: InventoryChangeAnswer): string[] {
  const sign = { add: "+", change: "~", remove: "-", unchanged: "=" }[change.kind];
  const head = `${sign} ${change.id}${change.kind === "remove" ? `  (revokes ${counted(change.liveLeaves, "usable certificate")})` : ""}`;
  const body = change.differences.map(
    ({ field, from, to }) => `    ${field}: ${change.kind === "add" ? "" : `${valueText(from)} -> `}${valueText(to)}`,
  );
  return [head, ...body];
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(String).join(", ");
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return "none";
  const pairs = Object.entries(value).map(([key, text]) => `${key}=${String(text)}`);
  return pairs.length === 0 ? "none" : pairs.join(", ");
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
