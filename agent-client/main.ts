/** argv → command → exit code. No logic. */
import { visible } from "@newleaf/shared/visible";
import { Command, CommanderError } from "commander";
import {
  checkCommand,
  describeFailure,
  enrollCommand,
  type ExitCode,
  keyCommand,
  readTokenOption,
  renewCommand,
  runCommand,
  statusCommand,
  type Terminal,
} from "./commands.ts";
import { UsageError } from "./app.ts";
import { defaultConfigFile } from "./config/config.ts";
import { version } from "./version.ts";

const terminal: Terminal = {
  out: (text) => void process.stdout.write(visible(text)),
  error: (text) => void process.stderr.write(visible(text)),
};

/** Runs one command. @returns the exit code: 0 done, 1 refused or failed, 2 wrong usage */
export async function main(argv: readonly string[]): Promise<ExitCode> {
  const stopping = new AbortController();
  const stop = (): void => {
    // Once is a request, twice is an order. Every step of the journal can be taken again.
    if (stopping.signal.aborted) process.exit(1);
    stopping.abort();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  let code: ExitCode = 0;
  const done = (result: ExitCode): void => void (code = result);
  try {
    await buildProgram(stopping.signal, done).parseAsync(argv, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    terminal.error(describeFailure(error));
    return error instanceof UsageError ? 2 : 1;
  }
}

function buildProgram(signal: AbortSignal, done: (code: ExitCode) => void): Command {
  const program = new Command("newleaf-agent")
    .description("Keeps certificates fresh on this host and proves that the proxy serves them.")
    .version(version)
    .exitOverride()
    .showHelpAfterError("(see newleaf-agent --help)")
    .addHelpText("after", "\nExit codes: 0 done, 1 refused or failed, 2 wrong usage.");
  const command = (name: string, description: string, example: string): Command =>
    program
      .command(name)
      .description(description)
      .option("--config <file>", "configuration", defaultConfigFile)
      .allowExcessArguments(false)
      .addHelpText("after", `\nExample:\n  ${example}`);

  command(
    "enroll",
    "get the first certificate, install it and prove it",
    "newleaf-agent enroll --name gateway --token-file /run/token",
  )
    .option("--name <certificate>", "which certificate of the configuration; default: all")
    .option("--token-file <file>", "one-time token from a file, or - for stdin; NEWLEAF_TOKEN works too")
    .option("--token <token>", "one-time token; other users of this host can see it")
    .option("--wait-for-approval", "wait until an operator has decided")
    .option("--adopt", "move regular files aside that are in the way of links")
    .action(async (options: EnrollFlags) => {
      if (options.token !== undefined && options.tokenFile !== undefined)
        throw new UsageError("--token and --token-file exclude each other");
      const token = await readTokenOption(options, process.env["NEWLEAF_TOKEN"], terminal);
      const { config, waitForApproval = false, adopt = false } = options;
      done(
        await enrollCommand({ config, name: options.name ?? null, token, waitForApproval, adopt }, terminal, signal),
      );
    });
  command("key", "make the key if there is none and print its SPKI fingerprint", "newleaf-agent key --name gateway")
    .option("--name <certificate>", "which certificate of the configuration; default: all")
    .action(async ({ config, name }: NamedFlags) => done(await keyCommand({ config, name: name ?? null }, terminal)));
  command("run", "keep the certificates until stopped", "newleaf-agent run --config /etc/newleaf/agent.yml")
    .option("--adopt", "move regular files aside that are in the way of links")
    .action(async ({ config, adopt = false }: NamedFlags) => done(await runCommand({ config, adopt }, signal)));
  command(
    "renew",
    "one pass over what is due, for timers and init containers",
    "newleaf-agent renew --name gateway --force",
  )
    .option("--name <certificate>", "which certificate of the configuration; default: all")
    .option("--force", "renew now, whatever the window says")
    .option("--adopt", "move regular files aside that are in the way of links")
    .action(async ({ config, name, force = false, adopt = false }: NamedFlags) =>
      done(await renewCommand({ config, name: name ?? null, force, adopt }, terminal, signal)),
    );
  command(
    "status",
    "what there is, until when, whether it is served, and what comes next",
    "newleaf-agent status --json",
  )
    .option("--json", "for scripts")
    .action(async ({ config, json = false }: NamedFlags) => done(await statusCommand({ config, json }, terminal)));
  command("check", "validate everything without changing anything", "newleaf-agent check").action(
    async ({ config }: NamedFlags) => done(await checkCommand({ config }, terminal)),
  );
  return program;
}

interface NamedFlags {
  readonly config: string;
  readonly name?: string;
  readonly adopt?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

interface EnrollFlags extends NamedFlags {
  readonly tokenFile?: string;
  readonly token?: string;
  readonly waitForApproval?: boolean;
}

if (import.meta.main) {
  // Whoever reads has seen enough (`status | head`); what is under way can be taken again.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
  process.exitCode = await main(process.argv.slice(2));
}
