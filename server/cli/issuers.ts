/** `newleaf ca …` and `newleaf crl …` */
import type { Command } from "commander";
import { AppError } from "@newleaf/shared/problems";
import type { AdminClient } from "./admin-client.ts";
import { commandGroup, listingCommand, printCsv, readingCommand, withClient } from "./admin-command.ts";
import type { IssuerAnswer } from "./answers.ts";
import { addCeremonyCommands } from "./ca.ts";
import { asJson, asTable, moment } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export function addIssuerCommands(program: Command, terminal: Terminal): void {
  const ca = commandGroup(program, "ca", "the CA certificates");
  listingCommand(ca, { usage: "list", summary: "roots and intermediates", examples: ["newleaf ca list"] }).action(
    withClient(terminal, async ({ client, options, json }) => {
      if (options.csv === true) return printCsv(terminal, client, "/v1/issuers");
      const items = await client.list<IssuerAnswer>("/v1/issuers");
      const rows = items.map((item) => [
        item.id,
        item.kind,
        item.state,
        moment(item.notAfter),
        item.subject.replaceAll("\n", ", "),
      ]);
      terminal.out(
        json ? asJson(items) : asTable(["ID", "KIND", "STATE", "ENDS", "SUBJECT"], rows, "There are no issuers."),
      );
    }),
  );
  addCeremonyCommands(ca, terminal);

  const crl = commandGroup(program, "crl", "certificate revocation lists");
  readingCommand(crl, {
    usage: "show [issuer]",
    summary: "the newest CRL of each issuer, or of one",
    examples: ["newleaf crl show", "newleaf crl show 3f9a0c17d2b4e586 --json"],
  }).action(
    withClient(terminal, async ({ client, json }, issuer) => {
      const items = await chosen(client, issuer);
      const rows = items.map((item) => [
        item.id,
        item.kind,
        String(item.crl?.number ?? "-"),
        moment(item.crl?.thisUpdate),
        moment(item.crl?.nextUpdate),
      ]);
      terminal.out(
        json
          ? asJson(items)
          : asTable(["ISSUER", "KIND", "NUMBER", "THIS UPDATE", "NEXT UPDATE"], rows, "There are no CRLs."),
      );
    }),
  );
  readingCommand(crl, {
    usage: "publish [issuer]",
    summary: "make and publish a fresh CRL now (it happens by itself every hour and on every revocation)",
    examples: ["newleaf crl publish"],
    notes:
      "Without an issuer: of every intermediate in use. A root's CRL is made with the root's key, which is not here.",
  }).action(
    withClient(terminal, async ({ client, json }, issuer) => {
      const items = await chosen(client, issuer);
      const signing =
        issuer === undefined ? items.filter((item) => item.kind === "intermediate" && item.state !== "retired") : items;
      const published: { readonly issuer: string; readonly number: number }[] = [];
      for (const { id } of signing) published.push(await client.post(`/v1/crls/${encodeURIComponent(id)}/publication`));
      terminal.out(json ? asJson(published) : published.map((item) => `${item.issuer}: CRL ${item.number}\n`).join(""));
    }),
  );
}

async function chosen(client: AdminClient, issuer: string | undefined): Promise<readonly IssuerAnswer[]> {
  const items = await client.list<IssuerAnswer>("/v1/issuers");
  if (issuer === undefined) return items;
  const found = items.filter((item) => item.id === issuer);
  if (found.length === 0) throw new AppError("not-found", `There is no issuer ${issuer}; see newleaf ca list`);
  return found;
}
