import { type CompletedCommand, hasValue, placeOf, quoted } from "./tree.ts";

/** For bash 4 and later, without the bash-completion package. */
export function bashScript(commands: readonly CompletedCommand[]): string {
  const places = commands.slice(1).map(({ path }) => quoted(placeOf(path)));
  return `# bash completion of newleaf
_newleaf() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} at= offered= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at \${COMP_WORDS[i]}" in
      ${places.join("|")}) at="$at \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at $prev" in
${commands.flatMap(valueCases).join("\n")}
  esac
  case "$at" in
${commands.map(wordCase).join("\n")}
  esac
  COMPREPLY=($(compgen -W "$offered" -- "$cur"))
}
complete -F _newleaf newleaf
`;
}

/** After an option that takes a value stands the value. */
function valueCases({ path, options }: CompletedCommand): readonly string[] {
  return options.filter(hasValue).map(({ names, value }) => {
    const patterns = names.map((name) => quoted(`${placeOf(path)} ${name}`)).join("|");
    if (typeof value === "object") {
      return `    ${patterns}) COMPREPLY=($(compgen -W ${quoted(value.choices.join(" "))} -- "$cur")); return ;;`;
    }
    if (value !== "file") return `    ${patterns}) return ;;`;
    return `    ${patterns}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;`;
  });
}

function wordCase({ path, subcommands, options, words }: CompletedCommand): string {
  const offered = [...subcommands.map(({ name }) => name), ...words, ...options.flatMap(({ names }) => names)];
  return `    ${quoted(placeOf(path))}) offered=${quoted(offered.join(" "))} ;;`;
}
