/** `newleaf cert …` */
import type { Command } from "commander";
import { normaliseSerial } from "@newleaf/shared/serial-number";
import {
  commandGroup,
  durationText,
  listingCommand,
  oneOf,
  searchText,
  printCsv,
  readingCommand,
  withClient,
} from "../admin-command.ts";
import type { CertificateSummary } from "../answers.ts";
import { asJson, asRecord, asTable, moment } from "../output.ts";
import { certificateSorts } from "../../store/certificates.ts";
import type { Terminal } from "../terminal.ts";
import { addUnvouchedCommands } from "./unvouched.ts";
import { addRevocationCommands } from "./revocation.ts";

const itself = (serial: string): string => `/v1/certificates/${normaliseSerial(serial)}`;

export function addCertCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "cert", "certificates that were issued");
  addList(group, terminal);
  addShowAndExport(group, terminal);
  addRevocationCommands(group, terminal);
  addUnvouchedCommands(group, terminal);
}

interface ListOptions {
  readonly identity?: string;
  readonly state?: string;
  readonly profile?: string;
  readonly expiresBefore?: string;
  readonly label?: string;
  readonly search?: string;
  readonly sort?: string;
}

const states = ["pending", "current", "superseded", "replaced", "held", "revoked", "expired"];
function addList(group: Command, terminal: Terminal): void {
  listingCommand(group, {
    usage: "list",
    summary: "every certificate in the store",
    examples: [
      "newleaf cert list --identity gateway-1",
      "newleaf cert list --state revoked --json",
      "newleaf cert list --search 4F:1C:09:D2",
    ],
  })
    .option("--identity <id>", "only of this identity")
    .option("--state <state>", "pending, current, superseded, replaced, held, revoked or expired", oneOf(...states))
    .option(
      "--profile <profile>",
      "agent, gateway, operator or service",
      oneOf("agent", "gateway", "operator", "service"),
    )
    .option("--expires-before <duration>", "only leaves in force that end within this time", durationText)
    .option("--label <label>", "only of identities with this label: key=value, or a key")
    .option(
      "--search <text>",
      "part of the identity's id, names, labels or owner; or the beginning of a serial, or of the fingerprint of key or certificate",
      searchText,
    )
    .option("--sort <order>", `${certificateSorts.join(", ")} (default: -issuedAt)`, oneOf(...certificateSorts))
    .action(
      withClient<ListOptions>(terminal, async ({ client, options, json }) => {
        const { identity, state, profile, expiresBefore, label, search, sort } = options;
        const query = { identity, state, profile, expiresBefore, label, q: search, sort };
        if (options.csv === true) return printCsv(terminal, client, "/v1/certificates", query);
        const items = await client.list<CertificateSummary>("/v1/certificates", query);
        const rows = items.map((item) => [
          item.serial,
          item.identity,
          item.reason === null ? item.state : `${item.state} (${item.reason})`,
          moment(item.notAfter),
          lineageText(item),
        ]);
        terminal.out(
          json
            ? asJson(items)
            : asTable(["SERIAL", "IDENTITY", "STATE", "ENDS", "LINEAGE"], rows, "No certificate matches."),
        );
      }),
    );
}

function addShowAndExport(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "show <serial>",
    summary: "what is known about one certificate",
    examples: ["newleaf cert show 4f1c09d2…", "newleaf cert show 4f1c09d2… --json"],
    notes: "Serials are hex; upper case and colons, as openssl prints them, are understood.",
  }).action(
    withClient(terminal, async ({ client, json }, serial = "") => {
      const found = await client.get<CertificateSummary>(itself(serial));
      const { certificate, chain: _, ...facts } = found;
      terminal.out(json ? asJson(found) : asRecord(facts) + (certificate ?? ""));
    }),
  );
  readingCommand(group, {
    usage: "export <serial>",
    summary: "the certificate and its intermediates, PEM",
    examples: [
      "newleaf cert export 4f1c09d2… | openssl x509 -noout -text",
      "newleaf cert export 4f1c09d2… --leaf > leaf.pem",
    ],
  })
    .option("--leaf", "without the intermediates")
    .action(
      withClient<{ readonly leaf?: boolean }>(terminal, async ({ client, options, json }, serial = "") => {
        const { certificate = "", chain = "" } = await client.get<CertificateSummary>(itself(serial));
        const whole = options.leaf === true ? { certificate } : { certificate, chain };
        terminal.out(json ? asJson(whole) : Object.values(whole).join(""));
      }),
    );
}

function lineageText({ lineage, generation }: CertificateSummary): string {
  return lineage === null ? "-" : `${lineage} #${generation}`;
}
