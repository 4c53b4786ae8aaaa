/** `newleaf cert unvouched …`: leaves with our issuer's signature that the store does not know. */
import { revocationReasons } from "@newleaf/shared/api";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import type { Command } from "commander";
import { commandGroup, harmfulCommand, listingCommand, oneOf, printCsv, withClient } from "../admin-command.ts";
import { asJson, asTable, moment } from "../output.ts";
import type { Terminal } from "../terminal.ts";

interface UnvouchedAnswer {
  readonly serial: string;
  readonly identity: string;
  readonly key: string;
  readonly notAfter: string;
  readonly address: string;
  readonly lastSeenAt: string;
  readonly state: string;
}

const states = ["open", "adopted", "revoked"];

export function addUnvouchedCommands(cert: Command, terminal: Terminal): void {
  const group = commandGroup(
    cert,
    "unvouched",
    "leaves with our issuer's signature that the store does not know: refused until you decide",
  );
  listingCommand(group, {
    usage: "list",
    summary: "those that were refused, newest first",
    examples: ["newleaf cert unvouched list", "newleaf cert unvouched list --state open --json"],
    notes:
      "After a restore without its journal these are the leaves issued since the backup. At any other time one of them means that somebody\nelse signs with the issuer's key.",
  })
    .option("--state <state>", "open, adopted or revoked", oneOf(...states))
    .action(
      withClient<{ readonly state?: string }>(terminal, async ({ client, options, json }) => {
        const query = { state: options.state };
        if (options.csv === true) return printCsv(terminal, client, "/v1/unvouched", query);
        const items = await client.list<UnvouchedAnswer>("/v1/unvouched", query);
        const rows = items.map((item) => [
          item.serial,
          item.identity,
          item.state,
          item.address,
          moment(item.lastSeenAt),
          moment(item.notAfter),
        ]);
        const headings = ["SERIAL", "SAYS IT IS", "STATE", "SEEN AT", "LAST SEEN", "ENDS"];
        terminal.out(json ? asJson(items) : asTable(headings, rows, "There are no unvouched leaves."));
      }),
    );
  harmfulCommand(group, {
    usage: "adopt <serial>",
    summary: "vouch for it: it becomes a leaf of the identity it names (role admin)",
    examples: ["newleaf cert unvouched adopt 4f1c09d2…"],
    notes:
      "Do so only when you know that this host had this leaf: compare the fingerprint with what the host shows. If in doubt, revoke it and\nlet the host enroll again.",
  }).action(
    withClient(terminal, async ({ client, confirm, json }, given = "") => {
      const serial = normaliseSerial(given);
      if (!(await confirm(`Vouch for ${serial}? Whoever holds it is accepted as the identity it names.`))) return;
      const answer = await client.post<UnvouchedAnswer>(`/v1/unvouched/${serial}/adoption`);
      terminal.out(json ? asJson(answer) : `${serial} is a leaf of ${answer.identity} now.\n`);
    }),
  );
  harmfulCommand(group, {
    usage: "revoke <serial>",
    summary: "put its serial onto the CRL",
    examples: ["newleaf cert unvouched revoke 4f1c09d2… --reason keyCompromise"],
  })
    .option("--reason <reason>", revocationReasons.join(", "), oneOf(...revocationReasons))
    .action(
      withClient<{ readonly reason?: string }>(terminal, async ({ client, options, confirm, json }, given = "") => {
        const serial = normaliseSerial(given);
        if (!(await confirm(`Revoke ${serial} for ever?`))) return;
        const { reason } = options;
        const answer = await client.post<UnvouchedAnswer>(
          `/v1/unvouched/${serial}/revocation`,
          reason === undefined ? {} : { reason },
        );
        terminal.out(json ? asJson(answer) : `${serial} is revoked.\n`);
      }),
    );
}
