/** `newleaf status`: first what needs a hand and the command for it, then how many of what. */
import type { Command } from "commander";
import { readingCommand, withClient } from "./admin-command.ts";
import type { StatusAnswer } from "./answers.ts";
import { asJson, asTable, moment, printable } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export function addStatusCommand(program: Command, terminal: Terminal): void {
  readingCommand(program, {
    usage: "status",
    summary: "what needs a hand, what is near its end, what waits, what is not served",
    examples: ["newleaf status", "newleaf status --json"],
  }).action(
    withClient(terminal, async ({ client, json }) => {
      const status = await client.get<StatusAnswer>("/v1/status");
      terminal.out(json ? asJson(status) : statusText(status));
    }),
  );
}

function statusText(status: StatusAnswer): string {
  const attention = attentionLines(status);
  const certificates = status.certificates.map(({ state, profile, count }) => [profile, state, String(count)]);
  const issuers = status.issuers.map((issuer) => [
    issuer.id,
    issuer.kind,
    issuer.state,
    moment(issuer.notAfter),
    issuer.crl === null ? "-" : `${issuer.crl.number}, until ${moment(issuer.crl.nextUpdate)}`,
  ]);
  return [
    attention.length === 0 ? "Nothing needs a hand.\n" : attention.map((line) => `! ${printable(line)}\n`).join(""),
    asTable(["PROFILE", "STATE", "CERTIFICATES"], certificates, "There are no certificates."),
    asTable(["ISSUER", "KIND", "STATE", "ENDS", "CRL"], issuers, "There are no issuers."),
  ].join("\n");
}

function attentionLines({ attention, time }: StatusAnswer): string[] {
  const { expiringWithin7Days, silent, installedNotServed } = attention;
  return [
    ...expiringWithin7Days.map(
      (leaf) =>
        `${leaf.identity} ${leaf.notAfter > time ? "ends" : "ENDED"} ${moment(leaf.notAfter)}: newleaf identity show ${leaf.identity}`,
    ),
    ...installedNotServed.map(
      (identity) => `${identity} does not serve what is in force: newleaf identity show ${identity}`,
    ),
    ...silent.map(
      ({ identity, lastSeen }) => `${identity} was last heard of ${moment(lastSeen)}: is its agent running?`,
    ),
    ...counted(
      attention.renewalOverdue,
      "past the end of the renewal window: newleaf identity list --expires-before 10d",
    ),
    ...counted(
      attention.renewalUnconfirmed,
      "released over a day ago and never used: newleaf cert list --state pending",
    ),
    ...counted(attention.lockedLineages, "locked, two held the same leaf: newleaf lineage list --state locked"),
    ...counted(attention.approvalsPending, "waiting for a decision: newleaf approvals list"),
    ...(attention.rootKeyOnThisHost
      ? ["the root key is still on this host: carry offline/ away, its README.txt says how"]
      : []),
  ];
}

function counted(count: number, what: string): string[] {
  return count === 0 ? [] : [`${count} ${what}`];
}
