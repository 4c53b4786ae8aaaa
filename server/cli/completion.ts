/** `newleaf completion bash|zsh|fish`: what the shell offers at Tab, written from the commands as they are. */
import { Argument, type Command, type Option } from "commander";
import { choicesOf } from "./admin-command.ts";
import { bashScript } from "./completion/bash.ts";
import { fishScript } from "./completion/fish.ts";
import type { CompletedCommand, CompletedOption } from "./completion/tree.ts";
import { zshScript } from "./completion/zsh.ts";
import type { Terminal } from "./terminal.ts";

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;
const shells = ["bash", "zsh", "fish"] as const;

export function addCompletionCommand(program: Command, terminal: Terminal): void {
  program
    .command("completion")
    .summary("what your shell needs to complete commands and options")
    .description("Prints a script that makes Tab complete commands, options and their values.")
    .addArgument(new Argument("<shell>", "the shell it is for").choices(shells))
    .addHelpText(
      "after",
      `
Examples:
  source <(newleaf completion bash)          in ~/.bashrc, or:
  newleaf completion bash > /etc/bash_completion.d/newleaf
  newleaf completion zsh > "\${fpath[1]}/_newleaf"
  newleaf completion fish > ~/.config/fish/completions/newleaf.fish
`,
    )
    .action((shell: (typeof shells)[number]) => terminal.out(scripts[shell](completedCommands(program))));
}

/** Every command there is, each with what may stand after it; the program itself first. */
export function completedCommands(program: Command): readonly CompletedCommand[] {
  return commandsUnder(program, []);
}

function commandsUnder(command: Command, path: readonly string[]): readonly CompletedCommand[] {
  const help = command.createHelp();
  const subcommands = help.visibleCommands(command).filter((sub) => sub.name() !== "help");
  const own: CompletedCommand = {
    path,
    subcommands: subcommands.map((sub) => ({ name: sub.name(), summary: sub.summary() || sub.description() })),
    options: help.visibleOptions(command).map(completedOption),
    words: command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices),
  };
  return [own, ...subcommands.flatMap((sub) => commandsUnder(sub, [...path, sub.name()]))];
}

function completedOption({
  long,
  short,
  flags,
  description,
  required,
  optional,
  argChoices,
  parseArg,
}: Option): CompletedOption {
  const choices = argChoices ?? (parseArg === undefined ? [] : choicesOf(parseArg));
  const takesValue = required || optional;
  return {
    names: [short, long].filter((name) => name !== undefined && name !== null),
    summary: description,
    value: !takesValue
      ? "none"
      : choices.length > 0
        ? { choices }
        : /<(?:file|dir|path|csr)>/.test(flags)
          ? "file"
          : "any",
  };
}
