import { type CompletedCommand, type CompletedOption, placeOf } from "./tree.ts";

export function fishScript(commands: readonly CompletedCommand[]): string {
  const places = commands.slice(1).map(({ path }) => quotedForFish(placeOf(path)));
  return `# fish completion of newleaf
function __newleaf_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case ${places.join(" ")}
                set at "$at $word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c newleaf -f
${commands.flatMap(linesOf).join("\n")}
`;
}

function linesOf({ path, subcommands, options, words }: CompletedCommand): readonly string[] {
  const here = `complete -c newleaf -n ${quotedForFish(`__newleaf_at ${quotedForFish(placeOf(path))}`)}`;
  return [
    ...subcommands.map(({ name, summary }) => `${here} -a ${quotedForFish(name)} -d ${quotedForFish(summary)}`),
    ...words.map((word) => `${here} -a ${quotedForFish(word)}`),
    ...options.map((option) => `${here}${flagsOf(option)} -d ${quotedForFish(option.summary)}`),
  ];
}

function flagsOf({ names, value }: CompletedOption): string {
  const flags = names.map((name) => (name.startsWith("--") ? ` -l ${name.slice(2)}` : ` -s ${name.slice(1)}`)).join("");
  if (value === "none") return flags;
  if (value === "file") return `${flags} -r -F`;
  return value === "any" ? `${flags} -x` : `${flags} -x -a ${quotedForFish(value.choices.join(" "))}`;
}

/** Within single quotes fish reads \\ and \' as what they stand for. */
function quotedForFish(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", String.raw`\'`)}'`;
}
