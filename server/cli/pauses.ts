/** `newleaf pauses …` */
import type { Command } from "commander";
import { commandGroup, harmfulCommand, listingCommand, printCsv, withClient } from "./admin-command.ts";
import { asJson, asTable, moment } from "./output.ts";
import type { Terminal } from "./terminal.ts";

interface PauseAnswer {
  readonly identity: string;
  readonly serial: string | null;
  readonly key: string | null;
  readonly code: string;
  readonly reason: string;
  readonly since: string;
  readonly until: string;
  readonly refusals: number;
  readonly address: string;
}

export function addPauseCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "pauses", "clients that were refused again and again and are answered at once");
  listingCommand(group, {
    usage: "list",
    summary: "who is paused, why and since when",
    examples: ["newleaf pauses list", "newleaf pauses list --identity gateway-1 --json"],
    notes:
      "A pause is of one leaf or one request, never of an identity: the same host with another leaf or key is not held up by it.",
  })
    .option("--identity <id>", "only of this identity")
    .action(
      withClient<{ readonly identity?: string }>(terminal, async ({ client, options, json }) => {
        const query = { identity: options.identity };
        if (options.csv === true) return printCsv(terminal, client, "/v1/pauses", query);
        const items = await client.list<PauseAnswer>("/v1/pauses", query);
        const rows = items.map((item) => [
          item.identity,
          item.code,
          item.serial ?? item.key ?? "",
          String(item.refusals),
          item.address,
          moment(item.since),
          moment(item.until),
        ]);
        const headings = ["IDENTITY", "CODE", "LEAF OR KEY", "REFUSALS", "LAST FROM", "SINCE", "UNTIL"];
        terminal.out(json ? asJson(items) : asTable(headings, rows, "Nobody is paused."));
      }),
    );
  harmfulCommand(group, {
    usage: "lift <identity>",
    summary: "have its requests looked at again",
    examples: ["newleaf pauses lift gateway-1", "newleaf pauses lift gateway-1 --yes"],
    notes:
      "Not needed after the cause was mended: a changed inventory entry, a released lineage or a lifted hold ends the pause by itself.",
  }).action(
    withClient(terminal, async ({ client, confirm, json }, identity = "") => {
      if (!(await confirm(`Lift the pauses of ${identity}?`))) return;
      await client.remove(`/v1/pauses/${encodeURIComponent(identity)}`);
      terminal.out(json ? asJson({ identity, paused: false }) : `Requests of ${identity} are looked at again.\n`);
    }),
  );
}
