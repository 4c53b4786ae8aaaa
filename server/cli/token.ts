/** `newleaf token …` */
import type { Command } from "commander";
import {
  commandGroup,
  durationText,
  harmfulCommand,
  listingCommand,
  printCsv,
  readingCommand,
  withClient,
} from "./admin-command.ts";
import type { CreatedTokenAnswer, TokenAnswer } from "./answers.ts";
import { asJson, asTable, moment } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export function addTokenCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "token", "one-time tokens for a first enrollment");
  readingCommand(group, {
    usage: "create <identity>",
    summary: "make a token that enrolls this identity once",
    examples: [
      "newleaf token create gateway-1 --ttl 1h",
      "newleaf token create gateway-1 > token   (the token alone goes to stdout)",
    ],
    notes:
      "The token is shown once and never again; it contains the root's fingerprint, so that the host can trust the service.",
  })
    .option("--ttl <duration>", "how long it works", durationText, "1h")
    .action(
      withClient<{ readonly ttl: string }>(terminal, async ({ client, options, json }, identity = "") => {
        const { token, expiresAt, rootFingerprint, ...rest } = await client.post<CreatedTokenAnswer>("/v1/tokens", {
          identity,
          ttl: options.ttl,
        });
        if (json) {
          terminal.out(asJson({ token, identity: rest.identity, expiresAt, rootFingerprint }));
          return;
        }
        terminal.err(
          `For ${rest.identity}, once, until ${moment(expiresAt)}. On the host, with the token in a file:\n  newleaf-agent enroll --token-file FILE\n`,
        );
        terminal.out(`${token}\n`);
      }),
    );
  listingCommand(group, {
    usage: "list",
    summary: "tokens, open, used and revoked (never the tokens themselves)",
    examples: ["newleaf token list", "newleaf token list --identity gateway-1 --json"],
  })
    .option("--identity <id>", "only of this identity")
    .action(
      withClient<{ readonly identity?: string }>(terminal, async ({ client, options, json }) => {
        const query = { identity: options.identity };
        if (options.csv === true) return printCsv(terminal, client, "/v1/tokens", query);
        const items = await client.list<TokenAnswer>("/v1/tokens", query);
        const rows = items.map((item) => [item.id, item.identity, item.state, moment(item.expiresAt), item.createdBy]);
        terminal.out(
          json ? asJson(items) : asTable(["ID", "IDENTITY", "STATE", "EXPIRES", "BY"], rows, "There are no tokens."),
        );
      }),
    );
  harmfulCommand(group, {
    usage: "revoke <id>",
    summary: "make an open token worthless",
    examples: ["newleaf token revoke 4f1c09d2a7b3e860"],
  }).action(
    withClient(terminal, async ({ client, confirm, json }, id = "") => {
      if (!(await confirm(`Revoke token ${id}?`))) return;
      await client.remove(`/v1/tokens/${encodeURIComponent(id)}`);
      terminal.out(json ? asJson({ id, state: "revoked" }) : `Token ${id} is worthless now.\n`);
    }),
  );
}
