/** What completion knows of one command. */
export interface CompletedCommand {
  /** `["identity", "list"]`; empty for the program itself. */
  readonly path: readonly string[];
  readonly subcommands: readonly { readonly name: string; readonly summary: string }[];
  readonly options: readonly CompletedOption[];
  /** What its arguments may be, where that is a closed set. */
  readonly words: readonly string[];
}

export interface CompletedOption {
  /** `-h` and `--help`. */
  readonly names: readonly string[];
  readonly summary: string;
  readonly value: "none" | "any" | "file" | { readonly choices: readonly string[] };
}

/** A command's place as the scripts spell it: each word with a blank before it. */
export function placeOf(path: readonly string[]): string {
  return path.map((word) => ` ${word}`).join("");
}

/** In single quotes, for a POSIX shell and for zsh. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function hasValue({ value }: CompletedOption): boolean {
  return value !== "none";
}
