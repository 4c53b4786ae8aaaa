/** `newleaf ca crl` and `newleaf ca import`. What the ceremony needs is loaded only when it is held: the other commands start faster without it. */
import { issuerRevocationReasons } from "@newleaf/shared/api";
import type { Command } from "commander";
import { collect, harmfulCommand, oneOf, withClient } from "./admin-command.ts";
import type { CrlOptions, ImportOptions } from "./ceremony.ts";
import type { Terminal } from "./terminal.ts";

export function addCeremonyCommands(ca: Command, terminal: Terminal): void {
  addCrl(ca, terminal);
  addImport(ca, terminal);
}

function addCrl(ca: Command, terminal: Terminal): void {
  ca.command("crl")
    .summary("offline: the root's next CRL, which revokes an issuing CA")
    .description(
      "Makes and signs the root's next CRL. Needs neither the service nor a network: run it where the root key is.",
    )
    .requiredOption("--root-key <file>", "the root's private key, as it lies in offline/")
    .requiredOption("--root <file>", "the root's certificate")
    .requiredOption("--previous-crl <file>", "the root's newest CRL, from http://…/crl/ROOT.crl; PEM or DER")
    .requiredOption("--revoke <file>", "certificate of an issuing CA to revoke (may be repeated)", collect)
    .option("--reason <reason>", issuerRevocationReasons.join(", "), oneOf(...issuerRevocationReasons), "cACompromise")
    .requiredOption("--out <file>", "where the CRL goes, PEM; must not exist")
    .option("--passphrase-file <file>", "file with the passphrase of the root key (default: asked for)")
    .option("--json", "print what was made, as JSON")
    .option("--yes", "do not ask")
    .addHelpText(
      "after",
      `
The CRL lists everything that the previous one lists, and lives as long as the longest of what it speaks of.
Where the files are: curl -O http://ca.claw.internal:8080/crl/ROOT.crl -O http://ca.claw.internal:8080/issuers/ISSUER.crt

Examples:
  newleaf ca crl --root-key root.key.pem --root root.pem --previous-crl 9b1f….crl --revoke 3f9a….crt --out next.crl
  newleaf ca import next.crl                      on the service's host, as an operator with the role admin
`,
    )
    .action(async (options: CrlOptions) => {
      const { makeCrl } = await import("./ceremony.ts");
      await makeCrl(terminal, options);
    });
}

function addImport(ca: Command, terminal: Terminal): void {
  harmfulCommand(ca, {
    usage: "import <file>",
    summary: "take a CRL that was made at a ceremony into force",
    examples: ["newleaf ca import next.crl", "newleaf ca import next.crl --issuer 9b1f… --yes"],
    notes: `The CRL must be of a root of this service, newer than the one in force, and drop nobody from it.
With --offline it works on the data directory itself while the service is stopped: for when no operator is accepted any more, because
the only issuing CA was revoked.`,
  })
    .option("--issuer <id>", "whose CRL it is (default: the only root)")
    .option("--offline", "without the service, which must be stopped")
    .action(
      withClient<ImportOptions>(terminal, async (context, file = "") => {
        const { importFile } = await import("./ceremony.ts");
        await importFile(context, file);
      }),
    );
}
