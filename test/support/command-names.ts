/** The commands of `newleaf`, from its own help. */
import type { Command } from "commander";
import { buildProgram } from "../../server/cli/program.ts";
import { processTerminal } from "../../server/cli/terminal.ts";

/** Command → its subcommands; none for a command that does something by itself. */
export function newleafCommands(): ReadonlyMap<string, ReadonlySet<string>> {
  const namesOf = (command: Command): ReadonlySet<string> => new Set(command.commands.map((sub) => sub.name()));
  return new Map(buildProgram(processTerminal({})).commands.map((command) => [command.name(), namesOf(command)]));
}
