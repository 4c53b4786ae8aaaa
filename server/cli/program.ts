/** The command tree of `newleaf`: argv → exit code. */
import { AppError } from "@newleaf/shared/problems";
import { NetworkError } from "@newleaf/shared/http-client";
import { Command, CommanderError } from "commander";
import { version } from "../version.ts";
import { collect } from "./admin-command.ts";
import { addApprovalCommands } from "./approvals.ts";
import { addAuditCommands } from "./audit/commands.ts";
import { addBackupCommands } from "./backup.ts";
import { Unconfirmed } from "./cert/await-confirmation.ts";
import { addCertCommands } from "./cert/commands.ts";
import { addCompletionCommand } from "./completion.ts";
import type { DemoOptions } from "./demo/demo.ts";
import { DemoFailure } from "./demo/failure.ts";
import type { DoctorOptions } from "./doctor/doctor.ts";
import { addIdentityCommands } from "./identity.ts";
import type { InitOptions } from "./init.ts";
import { addInventoryCommands } from "./inventory/commands.ts";
import { addIssuerCommands } from "./issuers.ts";
import { addLineageCommands } from "./lineage.ts";
import { addLoginCommand, addOperatorCommands } from "./operator/commands.ts";
import { addPauseCommands } from "./pauses.ts";
import type { ServeOptions } from "./serve.ts";
import { addStatusCommand } from "./status.ts";
import type { Terminal } from "./terminal.ts";
import { addTokenCommands } from "./token.ts";
import { UsageError } from "./usage-error.ts";
import { describeSystemError } from "./system-error.ts";

export const exitCodes = { done: 0, failed: 1, wrongUsage: 2 } as const;

/** Runs one command. Resolves to the exit code: 0 done, 1 refused or failed, 2 wrong usage. Nothing is thrown. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await buildProgram(terminal).parseAsync(argv, { from: "user" });
    return exitCodes.done;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Its message is out already. Help that was asked for is no error; help instead of a missing command is.
      return error.exitCode === 0 ? exitCodes.done : exitCodes.wrongUsage;
    }
    terminal.err(`newleaf: ${describe(error)}\n`);
    return error instanceof UsageError ? exitCodes.wrongUsage : exitCodes.failed;
  }
}

export function buildProgram(terminal: Terminal): Command {
  const program = new Command("newleaf")
    .description("The Newleaf issuing service, and the command line of its operators")
    .version(version)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) })
    .showHelpAfterError("(--help shows how it is used)");
  addInit(program, terminal);
  addServe(program, terminal);
  addDemo(program, terminal);
  addStatusCommand(program, terminal);
  addDoctor(program, terminal);
  addIdentityCommands(program, terminal);
  addInventoryCommands(program, terminal);
  addTokenCommands(program, terminal);
  addApprovalCommands(program, terminal);
  addOperatorCommands(program, terminal);
  addLoginCommand(program, terminal);
  addCertCommands(program, terminal);
  addLineageCommands(program, terminal);
  addPauseCommands(program, terminal);
  addIssuerCommands(program, terminal);
  addAuditCommands(program, terminal);
  addBackupCommands(program, terminal);
  addCompletionCommand(program, terminal);
  return program;
}

function addInit(program: Command, terminal: Terminal): void {
  program
    .command("init")
    .summary("make a data directory with a new certification authority")
    .description(
      "Makes root, intermediate, database, configuration and the first operator in an empty directory, all or nothing.",
    )
    .option("--data <dir>", "data directory (default: NEWLEAF_DATA, ./newleaf-data, /var/lib/newleaf)")
    .option("--ca-name <name>", "name that goes into the CA certificates", "Newleaf")
    .option("--host <name>", "DNS name or IP address of the service (may be repeated; default: localhost)", collect)
    .option("--public-url <url>", "base of CRL and issuer URLs in certificates (default: http://<first host>:8080)")
    .option("--root-passphrase-file <file>", "file with the passphrase that encrypts the root key (default: asked for)")
    .option("--operator <id>", "first operator, with the role admin", "admin@operators")
    .addHelpText(
      "after",
      `
Examples:
  newleaf init
  newleaf init --data /var/lib/newleaf --ca-name "Claw Lab" --host ca.claw.internal --root-passphrase-file /run/passphrase
`,
    )
    .action(async (options: InitOptions) => {
      // Only this command needs the whole CA engine: the others start faster without it.
      const { init } = await import("./init.ts");
      await init(terminal, options);
    });
}

function addServe(program: Command, terminal: Terminal): void {
  program
    .command("serve")
    .summary("run the service")
    .description("Runs the service on its five listeners until SIGTERM or SIGINT; a second signal ends it at once.")
    .option("--data <dir>", "data directory (default: NEWLEAF_DATA, ./newleaf-data, /var/lib/newleaf)")
    .option("--check-config", "only check configuration and key permissions")
    .addHelpText("after", "\nExamples:\n  newleaf serve\n  newleaf serve --data /var/lib/newleaf --check-config\n")
    .action(async (options: ServeOptions) => {
      const { serve } = await import("./serve.ts");
      await serve(terminal, options);
    });
}

function addDoctor(program: Command, terminal: Terminal): void {
  program
    .command("doctor")
    .summary("check the service itself: permissions, keys, CRLs, journal, backups, disk, clock, listeners")
    .description(
      "Looks at the service from its own host, running or stopped, and grades what it finds: ok, warning, failure, each with why it matters and what to do. Changes nothing.",
    )
    .option("--data <dir>", "data directory (default: NEWLEAF_DATA, ./newleaf-data, /var/lib/newleaf)")
    .option("--strict", "exit code 1 also when something warns")
    .option("--json", "print findings as JSON")
    .addHelpText(
      "after",
      `
Exit code 1 when a check fails. To be told every morning, let cron or a systemd timer run it with --strict.
Run it as the owner of the data directory. For the fleet, see: newleaf status

Examples:
  newleaf doctor
  newleaf doctor --data /var/lib/newleaf --strict
  newleaf doctor --json | jq -r '.findings[] | select(.grade == "failure") | .fix'
`,
    )
    .action(async (options: DoctorOptions) => {
      const { doctor } = await import("./doctor/doctor.ts");
      await doctor(terminal, options);
    });
}

function addDemo(program: Command, terminal: Terminal): void {
  program
    .command("demo")
    .summary("watch the whole loop on this machine")
    .description(
      "Runs a service, an agent, a TLS gateway (nginx where it is installed) and clients in a temporary directory, with leaves that live for seconds, and tells each event as it happens: enrolled, renewed, reloaded, served and verified, revoked, refused. Ctrl-C ends it and cleans up.",
    )
    .option("--once", "end after two renewals and one revocation: exit code 0 when every step held, else 1")
    .option("--json", "one JSON object a line, the last one with the summary")
    .addHelpText("after", "\nExamples:\n  newleaf demo\n  newleaf demo --once --json\n")
    .action(async (options: DemoOptions) => {
      const { demo } = await import("./demo/demo.ts");
      await demo(terminal, options);
    });
}

function describe(error: unknown): string {
  if (error instanceof AppError) return `${error.message} (${error.code})`;
  if (
    error instanceof NetworkError ||
    error instanceof UsageError ||
    error instanceof DemoFailure ||
    error instanceof Unconfirmed
  )
    return error.message;
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  // A system error says what and why in its message; anything else is a fault of this program, and its place helps to mend it.
  return code === undefined ? (error.stack ?? error.message) : describeSystemError(error);
}
