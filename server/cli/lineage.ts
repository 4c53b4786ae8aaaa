/** `newleaf lineage …` */
import type { Command } from "commander";
import { commandGroup, harmfulCommand, oneOf, readingCommand, withClient } from "./admin-command.ts";
import type { LineageAnswer } from "./answers.ts";
import { revocationText, revokeAsked } from "./cert.ts";
import { asJson, asRecord, asTable, moment } from "./output.ts";
import type { Terminal } from "./terminal.ts";

const itself = (id: string): string => `/v1/lineages/${encodeURIComponent(id)}`;

export function addLineageCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(
    program,
    "lineage",
    "chains of renewals, and the ones locked because two held the same leaf",
  );
  readingCommand(group, {
    usage: "list",
    summary: "lineages, locked ones with --state locked",
    examples: ["newleaf lineage list --state locked", "newleaf lineage list --identity gateway-1 --json"],
  })
    .option("--state <state>", "active, locked or ended", oneOf("active", "locked", "ended"))
    .option("--identity <id>", "only of this identity")
    .action(
      withClient<{ readonly state?: string; readonly identity?: string }>(
        terminal,
        async ({ client, options, json }) => {
          const items = await client.list<LineageAnswer>("/v1/lineages", {
            state: options.state,
            identity: options.identity,
          });
          const rows = items.map((item) => [
            item.id,
            item.identity,
            item.state,
            String(item.generation),
            moment(item.createdAt),
            moment(item.lockedAt),
          ]);
          terminal.out(
            json
              ? asJson(items)
              : asTable(["ID", "IDENTITY", "STATE", "GENERATIONS", "SINCE", "LOCKED"], rows, "No lineage matches."),
          );
        },
      ),
    );
  readingCommand(group, {
    usage: "show <id>",
    summary: "one lineage, its generations, and what was seen when it locked",
    examples: ["newleaf lineage show 9d31c0…"],
  }).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const lineage = await client.get(itself(id));
      terminal.out(json ? asJson(lineage) : asRecord(lineage));
    }),
  );
  readingCommand(group, {
    usage: "release <id>",
    summary: "unlock: the current generation was the rightful one",
    examples: ["newleaf lineage release 9d31c0…"],
    notes:
      "Only after you know who the second holder was. When in doubt revoke the lineage and enroll the host again with a token.",
  }).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const answer = await client.post(`${itself(id)}/release`);
      terminal.out(json ? asJson(answer) : `Lineage ${id} is active again.\n`);
    }),
  );
  harmfulCommand(group, {
    usage: "revoke <id>",
    summary: "revoke every generation and block their keys (keyCompromise)",
    examples: ["newleaf lineage revoke 9d31c0…", "newleaf lineage revoke 9d31c0… --yes"],
  }).action(
    withClient(terminal, async (context, id = "") => {
      const answer = await revokeAsked(context, { lineage: id, reason: "keyCompromise" });
      if (answer !== null) terminal.out(context.json ? asJson(answer) : revocationText(answer));
    }),
  );
}
