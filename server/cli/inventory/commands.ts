/** `newleaf inventory …` */
import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { AppError } from "@newleaf/shared/problems";
import type { Command } from "commander";
import { commandGroup, harmfulCommand, readingCommand, withClient } from "../admin-command.ts";
import type { IdentityAnswer, InventoryChangeAnswer, InventoryPlanAnswer } from "../answers.ts";
import { type InventoryFileEntry, parseInventory, writeInventory } from "./file.ts";
import { planText } from "./plan-text.ts";
import { asJson } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";
import { systemCause } from "../system-error.ts";

interface ApplyOptions {
  readonly file: string;
  readonly dryRun?: boolean;
  readonly prune?: boolean;
  readonly revokeLive?: boolean;
}

/** In a refusal. */
const maxNamed = 20;

export function addInventoryCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "inventory", "the whole inventory as a file");
  addApply(group, terminal);
  addExport(group, terminal);
}

function addApply(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "apply",
    summary: "make the inventory what a file says",
    examples: [
      "newleaf inventory apply -f inventory.yml --dry-run",
      "newleaf inventory apply -f inventory.yml",
      "newleaf inventory apply -f inventory.yml --prune",
      "newleaf inventory apply -f inventory.yml --prune --revoke-live --yes",
    ],
    notes:
      "Shows the difference first. Removing is asked about, and refused for identities that hold usable certificates unless\n--revoke-live says to revoke them. Approved keys that were spent are not armed again by applying the same file.",
  })
    .requiredOption("-f, --file <file>", "inventory.yml, or - for stdin")
    .option("--dry-run", "only show the difference")
    .option("--prune", "remove what the file does not list (operators stay)")
    .option("--revoke-live", "with --prune: remove also what holds usable certificates, and revoke them")
    .action(
      withClient<ApplyOptions>(terminal, async ({ client, options, confirm, json }) => {
        if (options.revokeLive === true && options.prune !== true)
          throw new UsageError("--revoke-live says what --prune may do; without --prune nothing is removed");
        const identities = await readInventory(options.file);
        const desired = { identities, prune: options.prune === true };
        const plan = await client.post<InventoryPlanAnswer>("/v1/inventory/plan", desired);
        if (!json) terminal.out(planText(plan));
        if (options.dryRun === true) {
          if (json) terminal.out(asJson(plan));
          return;
        }
        const removed = plan.changes.filter((change) => change.kind === "remove");
        refuseUnsaid(removed, options);
        const live = removed.reduce((sum, change) => sum + change.liveLeaves, 0);
        if (
          removed.length > 0 &&
          !(await confirm(
            `Remove ${counted(removed.length, "identity", "identities")} and revoke ${counted(live, "usable certificate")}?`,
          ))
        ) {
          return;
        }
        const isNothing = plan.changes.every((change) => change.kind === "unchanged");
        const applied = isNothing
          ? plan
          : await client.post<InventoryPlanAnswer>("/v1/inventory/apply", {
              ...desired,
              ...(live > 0 ? { revokeLive: true } : {}),
            });
        terminal.out(json ? asJson(applied) : isNothing ? "Nothing to change.\n" : "Applied.\n");
      }),
    );
}

function addExport(group: Command, terminal: Terminal): void {
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

/** @throws AppError conflict naming what would be revoked without --revoke-live */
function refuseUnsaid(removed: readonly InventoryChangeAnswer[], options: ApplyOptions): void {
  const holding = removed.filter((change) => change.liveLeaves > 0);
  if (holding.length === 0 || options.revokeLive === true) return;
  const named = holding.slice(0, maxNamed).map(({ id }) => id);
  const more = holding.length > maxNamed ? ` and ${holding.length - maxNamed} more` : "";
  throw new AppError(
    "conflict",
    `Nothing was changed: removing would revoke usable certificates of ${named.join(", ")}${more}. List them in the file, or say --revoke-live`,
  );
}

async function readInventory(file: string): Promise<readonly InventoryFileEntry[]> {
  let content: string;
  try {
    content = file === "-" ? await readAll(process.stdin) : await readFile(file, "utf8");
  } catch (error) {
    throw new UsageError(`--file ${file} cannot be read (${systemCause(error)})`, {
      cause: error,
    });
  }
  return parseInventory(content, file === "-" ? "stdin" : file);
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
