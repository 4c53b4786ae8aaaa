/** `newleaf lineage …` */
import type { Command } from "commander";
import {
  commandGroup,
  durationText,
  harmfulCommand,
  listingCommand,
  oneOf,
  printCsv,
  readingCommand,
  withClient,
} from "./admin-command.ts";
import type { LineageAnswer, LineageStoryAnswer } from "./answers.ts";
import { asJson, asRecord, asTable, moment, printable } from "./output.ts";
import { revokeAsked } from "./cert/revocation.ts";
import type { Terminal } from "./terminal.ts";

const itself = (id: string): string => `/v1/lineages/${encodeURIComponent(id)}`;

export function addLineageCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(
    program,
    "lineage",
    "chains of renewals, and the ones locked because two held the same leaf",
  );
  listingCommand(group, {
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
          const query = {
            state: options.state,
            identity: options.identity,
          };
          if (options.csv === true) return printCsv(terminal, client, "/v1/lineages", query);
          const items = await client.list<LineageAnswer>("/v1/lineages", query);
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
    summary: "one lineage: what happened to it, and both sides of a conflict",
    examples: ["newleaf lineage show 9d31c0…"],
  }).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const lineage = await client.get<LineageStoryAnswer>(itself(id));
      terminal.out(json ? asJson(lineage) : storyText(lineage));
    }),
  );
  addDecisions(group, terminal);
}

function addDecisions(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "release <id>",
    summary: "unlock: the current generation was the rightful one",
    examples: ["newleaf lineage release 9d31c0…", "newleaf lineage release 9d31c0… --yes"],
    notes:
      "Only after you know who the second holder was. When in doubt revoke the lineage and enroll the host again with a token.",
  }).action(
    withClient(terminal, async ({ client, terminal: { err, isInteractive }, options, json, confirm }, id = "") => {
      if (options.yes !== true && isInteractive) err(storyText(await client.get<LineageStoryAnswer>(itself(id))));
      if (!(await confirm("Release? Whoever holds its current generation may renew again."))) return;
      const answer = await client.post(`${itself(id)}/release`);
      terminal.out(json ? asJson(answer) : `Lineage ${id} is active again.\n`);
    }),
  );
  harmfulCommand(group, {
    usage: "revoke <id>",
    summary: "revoke every generation and block their keys (keyCompromise)",
    examples: ["newleaf lineage revoke 9d31c0…", "newleaf lineage revoke 9d31c0… --wait 30s --yes"],
  })
    .option("--wait <duration>", "follow until every connected agent has confirmed, at most so long", durationText)
    .action(
      withClient<{ readonly wait?: string }>(terminal, (context, id = "") =>
        revokeAsked(context, { lineage: id, reason: "keyCompromise" }),
      ),
    );
}

const words: Readonly<Record<string, string>> = {
  "certificate.issued": "issued",
  "certificate.first-used": "first used",
  "certificate.last-used": "last used",
  "certificate.superseded": "superseded",
  "certificate.revoked": "revoked",
  "certificate.hold-released": "hold lifted",
  "lineage.stale-use": "STALE USE",
  "lineage.conflict": "CONFLICT",
  "lineage.released": "released",
  "lineage.revoked": "lineage revoked",
};

function storyText({ id, identity, state, story, evidence }: LineageStoryAnswer): string {
  const rows = story.map((happening) => [
    happening.at.slice(0, 19).replace("T", " "),
    happening.generation === null ? "-" : `#${happening.generation}`,
    words[happening.event] ?? happening.event,
    happening.address ?? "-",
    happening.actor ?? "-",
    [happening.key, happening.note].filter((text) => text !== null).join(" ") || "-",
  ]);
  return [
    `Lineage ${printable(id)} of ${printable(identity)} is ${state}.\n\n`,
    asTable(["TIME (UTC)", "LEAF", "WHAT", "FROM", "BY", "KEY, REASON"], rows, "Nothing is known of it."),
    evidence === null ? "" : `\nSeen when it locked:\n${asRecord(evidence)}`,
    state === "locked"
      ? `\nThe host of the current generation is the rightful one: newleaf lineage release ${id}\nIt is not, or you do not know: newleaf lineage revoke ${id}\n`
      : "",
  ].join("");
}
