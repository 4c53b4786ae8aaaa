import { type CompletedCommand, hasValue, placeOf, quoted } from "./tree.ts";

/** To be sourced, or to stand as `_newleaf` in a directory of fpath. `path` is a word of zsh's own: here it is `at`. */
export function zshScript(commands: readonly CompletedCommand[]): string {
  const places = commands.slice(1).map(({ path }) => quoted(placeOf(path)));
  return `#compdef newleaf
# zsh completion of newleaf
_newleaf() {
  local at= prev=\${words[CURRENT-1]} i
  local -a offered flags
  for ((i = 2; i < CURRENT; i++)); do
    case "$at \${words[i]}" in
      (${places.join("|")}) at="$at \${words[i]}" ;;
    esac
  done
  case "$at $prev" in
${commands.flatMap(valueCases).join("\n")}
  esac
  case "$at" in
${commands.map(wordCase).join("\n")}
  esac
  (( \${#offered} )) && _describe -t commands 'newleaf command' offered
  _describe -o -t options 'option' flags
}
if [[ "\${funcstack[1]:-}" == _newleaf ]]; then _newleaf "$@"; else compdef _newleaf newleaf; fi
`;
}

function valueCases({ path, options }: CompletedCommand): readonly string[] {
  return options.filter(hasValue).map(({ names, value }) => {
    const patterns = names.map((name) => quoted(`${placeOf(path)} ${name}`)).join("|");
    if (typeof value === "object")
      return `    (${patterns}) compadd -- ${value.choices.map(quoted).join(" ")}; return ;;`;
    return `    (${patterns}) ${value === "file" ? "_files" : "_message value"}; return ;;`;
  });
}

function wordCase({ path, subcommands, options, words }: CompletedCommand): string {
  const offered = [...subcommands.map(({ name, summary }) => `${name}:${summary}`), ...words];
  const flags = options.flatMap(({ names, summary }) => names.map((name) => `${name}:${summary}`));
  const place = quoted(placeOf(path));
  return `    (${place}) offered=(${offered.map(quoted).join(" ")}); flags=(${flags.map(quoted).join(" ")}) ;;`;
}
