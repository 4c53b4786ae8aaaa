/** `newleaf status`: first what needs a hand and the command for it, then how many of what. */
import type { Command } from "commander";
import { readingCommand, withClient } from "./admin-command.ts";
import type { AttentionAnswer, StatusAnswer } from "./answers.ts";
import { asJson, asTable, moment, printable } from "./output.ts";
import type { Terminal } from "./terminal.ts";

/** Of each kind; --json has more. */
const maxNamed = 5;

export function addStatusCommand(program: Command, terminal: Terminal): void {
  readingCommand(program, {
    usage: "status",
    summary: "what needs a hand, what is near its end, what waits, what is not served",
    examples: [
      "newleaf status",
      "newleaf status --json | jq -r '.attention[] | select(.urgency == \"now\") | .summary'",
    ],
    notes:
      "Each line has the command that helps. !! fails or soon will, ! has days, - is to be put right when there is time.",
  }).action(
    withClient(terminal, async ({ client, json }) => {
      const status = await client.get<StatusAnswer>("/v1/status");
      terminal.out(json ? asJson(status) : statusText(status));
    }),
  );
}

function statusText(status: StatusAnswer): string {
  const attention = status.attention.flatMap(attentionLines);
  const certificates = status.certificates.map(({ state, profile, count }) => [profile, state, String(count)]);
  const issuers = status.issuers.map((issuer) => [
    issuer.id,
    issuer.kind,
    issuer.state,
    moment(issuer.notAfter),
    issuer.crl === null ? "-" : `${issuer.crl.number}, until ${moment(issuer.crl.nextUpdate)}`,
  ]);
  return [
    attention.length === 0 ? "Nothing needs a hand.\n" : attention.map((line) => `${printable(line)}\n`).join(""),
    asTable(["PROFILE", "STATE", "CERTIFICATES"], certificates, "There are no certificates."),
    asTable(["ISSUER", "KIND", "STATE", "ENDS", "CRL"], issuers, "There are no issuers."),
  ].join("\n");
}

const signs = { now: "!!", soon: "!", note: "-" } as const;

/** What it is and how many, the command that helps, and under it whom it concerns. */
function attentionLines({ urgency, count, summary, command, subjects }: AttentionAnswer): string[] {
  const many = count === 1 && subjects.length === 0 ? "" : ` (${count})`;
  const head = `${signs[urgency]} ${summary}${many}: ${command}`;
  const named = subjects.slice(0, maxNamed).map(({ id, since, detail }) => {
    const facts = [since === null ? "" : `since ${moment(since)}`, detail ?? ""].filter((fact) => fact !== "");
    return `     ${id}${facts.length === 0 ? "" : `  ${facts.join(", ")}`}`;
  });
  const more = count - named.length;
  return [head, ...named, ...(subjects.length > 0 && more > 0 ? [`     and ${more} more`] : [])];
}
