/** `newleaf operator …` and `newleaf login`: people, their roles, and how they get a certificate. */
import { existsSync } from "node:fs";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import type { Command } from "commander";
import type { Role } from "../../store/identities.ts";
import {
  collect,
  commandGroup,
  durationText,
  harmfulCommand,
  listingCommand,
  oneOf,
  printCsv,
  readingCommand,
  withClient,
} from "../admin-command.ts";
import type { OperatorAnswer } from "../answers.ts";
import type { LoginOptions } from "./login.ts";
import type { P12Options } from "./p12.ts";
import type { RescueOptions } from "./rescue.ts";
import { asJson, asRecord, asTable, moment } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";

const itself = (id: string): string => `/v1/operators/${encodeURIComponent(id)}`;
const role = oneOf("viewer", "approver", "operator", "admin");
const roleHelp = "viewer, approver, operator or admin";

interface AddedOperator extends OperatorAnswer {
  readonly token: string;
  readonly expiresAt: string;
}

export function addOperatorCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "operator", "the people who run this: a certificate and a role each");
  addAdd(group, terminal);
  listingCommand(group, {
    usage: "list",
    summary: "operators, their roles, and until when their certificates are good",
    examples: ["newleaf operator list", "newleaf operator list --json"],
  }).action(
    withClient(terminal, async ({ client, options, json }) => {
      if (options.csv === true) return printCsv(terminal, client, "/v1/operators");
      const items = await client.list<OperatorAnswer>("/v1/operators");
      const rows = items.map((item) => [
        item.id,
        item.role,
        item.state,
        item.leaf === null ? "no certificate" : moment(item.leaf.notAfter),
      ]);
      terminal.out(
        json ? asJson(items) : asTable(["OPERATOR", "ROLE", "STATE", "CERTIFICATE UNTIL"], rows, "There are none."),
      );
    }),
  );
  readingCommand(group, {
    usage: "show <id>",
    summary: "one operator",
    examples: ["newleaf operator show alice@operators"],
  }).action(
    withClient(terminal, async ({ client, json }, id = "") => {
      const answer = await client.get<OperatorAnswer>(itself(id));
      terminal.out(json ? asJson(answer) : asRecord(answer));
    }),
  );
  addSet(group, terminal);
  harmfulCommand(group, {
    usage: "remove <id>",
    summary: "revoke an operator's certificates and remove the operator",
    examples: ["newleaf operator remove bob@operators"],
    notes:
      "What the operator gave a first yes to waits for others again. Tokens that the operator made stay: newleaf token list shows them.",
  }).action(
    withClient(terminal, async ({ client, confirm, json }, id = "") => {
      const operator = await client.get<OperatorAnswer>(itself(id));
      if (!(await confirm(`Remove ${operator.id} (${operator.role}) and revoke every certificate of this operator?`)))
        return;
      await client.remove(itself(id));
      terminal.out(json ? asJson({ id: operator.id, state: "removed" }) : `${operator.id} is removed.\n`);
    }),
  );
  addP12(group, terminal);
  addRescue(group, terminal);
}

function addAdd(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "add <id>",
    summary: "add an operator; prints the token for newleaf login once",
    examples: [
      "newleaf operator add alice@operators --role operator --token-out alice.token",
      "newleaf operator add bob@operators --role viewer --ttl 8h > bob.token   (the token alone goes to stdout)",
    ],
    notes:
      "Role viewer reads; approver also decides approvals; operator also inventory, tokens, revocation, lineages, recovery; admin also operators, CA, backup.",
  })
    .requiredOption("--role <role>", roleHelp, role)
    .option("--ttl <duration>", "how long the token works", durationText, "1h")
    .option("--token-out <file>", "write the token into a new file (0600) instead of printing it")
    .option("--label <key=value>", "label of the identity (may be repeated)", collect)
    .option("--email <address>", "e-mail address in the certificate (may be repeated)", collect)
    .action(
      withClient<AddOptions>(terminal, async ({ client, options, json }, id = "") => {
        const { tokenOut } = options;
        // Asked before the operator is made: a token that cannot be written down would be lost.
        if (tokenOut !== undefined && existsSync(tokenOut))
          throw new UsageError(`--token-out ${tokenOut} is there already; nothing was changed`);
        const answer = await client.post<AddedOperator>("/v1/operators", {
          id,
          role: options.role,
          ttl: options.ttl,
          ...(options.label === undefined ? {} : { labels: labelsOf(options.label) }),
          ...(options.email === undefined ? {} : { names: { email: options.email } }),
        });
        const { token, ...rest } = answer;
        if (tokenOut !== undefined) await writeToken(tokenOut, token, id);
        const how = `${id} has the role ${answer.role}. On any machine, once, until ${moment(answer.expiresAt)}:\n  newleaf login --server URL --token-file ${tokenOut ?? "FILE"}\n`;
        if (json) terminal.out(asJson(tokenOut === undefined ? answer : rest));
        else {
          terminal.err(how);
          if (tokenOut === undefined) terminal.out(`${token}\n`);
        }
      }),
    );
}

interface AddOptions {
  readonly role: string;
  readonly ttl: string;
  readonly tokenOut?: string;
  readonly label?: readonly string[];
  readonly email?: readonly string[];
}

async function writeToken(path: string, token: string, id: string): Promise<void> {
  try {
    await createFileExclusively(path, `${token}\n`, { mode: 0o600 });
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "EEXIST" ? "is there already" : (error as Error).message;
    throw new AppError(
      "conflict",
      `${id} was added, but ${path} ${why}, and the token is lost. Make another: newleaf token create ${id} > FILE`,
      { cause: error },
    );
  }
}

function labelsOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function addSet(group: Command, terminal: Terminal): void {
  harmfulCommand(group, {
    usage: "set <id>",
    summary: "give an operator another role, from the next request on",
    examples: ["newleaf operator set alice@operators --role admin"],
    notes: "Nobody raises their own role; the last admin who holds a certificate in date stays one.",
  })
    .requiredOption("--role <role>", roleHelp, role)
    .action(
      withClient<{ readonly role: string }>(terminal, async ({ client, options, confirm, json }, id = "") => {
        const before = await client.get<OperatorAnswer>(itself(id));
        if (!(await confirm(`Change the role of ${before.id} from ${before.role} to ${options.role}?`))) return;
        const answer = await client.patch<OperatorAnswer>(itself(id), { role: options.role });
        terminal.out(json ? asJson(answer) : `${answer.id} has the role ${answer.role} now.\n`);
      }),
    );
}

function addP12(group: Command, terminal: Terminal): void {
  group
    .command("p12")
    .summary("your key and certificate as PKCS#12, for a browser")
    .description(
      "Writes the operator's key and certificate into one encrypted file, as browsers and systems import it.",
    )
    .option("--data <dir>", "data directory of the service (default: NEWLEAF_DATA, ./newleaf-data, /var/lib/newleaf)")
    .option("--as <operator>", "whose: an operator's id, a login, or a directory with key.pem and chain.pem")
    .option("--out <file>", "new file", "client.p12")
    .option("--passphrase-file <file>", "file with the passphrase (default: one is made and written beside it, 0600)")
    .addHelpText(
      "after",
      "\nExamples:\n  newleaf operator p12\n  newleaf operator p12 --as alice@operators --out alice.p12 --passphrase-file /run/passphrase\n",
    )
    .action(async (options: P12Options) => {
      const { writeP12 } = await import("./p12.ts");
      await writeP12(terminal, options);
    });
}

function addRescue(group: Command, terminal: Terminal): void {
  group
    .command("rescue <id>")
    .summary("the way back in when no operator can act any more (service stopped, on its host)")
    .description(
      "Makes the operator or revives the one there is, gives the role, and issues a certificate to a new key in operators/ID. On the service's host, as the owner of the data directory, with the service stopped.",
    )
    .option("--role <role>", roleHelp, role, "admin")
    .option("--data <dir>", "data directory of the service (default: NEWLEAF_DATA, ./newleaf-data, /var/lib/newleaf)")
    .addHelpText(
      "after",
      "\nExamples:\n  newleaf operator rescue admin@operators\n  sudo -u newleaf newleaf operator rescue admin@operators --data /var/lib/newleaf\n",
    )
    .action(async (id: string, options: { readonly role: Role; readonly data?: string } & RescueOptions) => {
      // Only this command needs the whole service.
      const { rescue } = await import("./rescue.ts");
      await rescue(terminal, id, options);
    });
}

export function addLoginCommand(program: Command, terminal: Terminal): void {
  program
    .command("login")
    .summary("get an operator's certificate on this machine")
    .description(
      "Makes a key on this machine and gets an operator's certificate with a token (newleaf operator add). Safe to repeat. Without a token: recovers a login whose certificate is over, after an admin's newleaf identity grant-recovery.",
    )
    .option("--server <url>", "admin listener of the service, https://ca.claw.internal:8445")
    .option("--token-file <file>", "file with the token; - reads it from stdin")
    .option("--roots <file>", "PEM file of the root to trust (default: the root that the token names)")
    .option("--name <name>", "name of the login (default: the operator's id)")
    .option("--enrollment <url>", "enrollment listener (default: the admin listener's port less 1)")
    .option("--agents <url>", "agents listener, which renews (default: the admin listener's port less 2)")
    .addHelpText(
      "after",
      "\nExamples:\n  newleaf login --server https://ca.claw.internal:8445 --token-file alice.token\n  newleaf login --name alice@operators\n",
    )
    .action(async (options: LoginOptions) => {
      const { login } = await import("./login.ts");
      await login(terminal, options);
    });
}
