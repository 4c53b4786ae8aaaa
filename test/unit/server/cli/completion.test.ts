import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { promisify } from "node:util";
import { completedCommands } from "../../../../server/cli/completion.ts";
import { buildProgram } from "../../../../server/cli/program.ts";
import { processTerminal } from "../../../../server/cli/terminal.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { newleaf } from "../../../support/terminal.ts";

type Shell = "bash" | "zsh" | "fish";

const run = promisify(execFile);
const commands = completedCommands(buildProgram(processTerminal({})));

/** Prints, for each line of words, what the shell would offer for the last of them, on one line. */
const asking: Readonly<Record<Shell, (lines: readonly (readonly string[])[]) => string>> = {
  bash: (lines) => `source "$1"
    offers() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _newleaf; echo "\${COMPREPLY[*]}"; }
    ${lines.map((words) => `offers ${words.map((word) => `'${word}'`).join(" ")}`).join("\n")}`,
  // The functions of zsh's completion system that the script calls, as far as it calls them.
  zsh: (lines) => `compdef() { :; }
    compadd() { shift; found+=("$@"); }
    _files() { found+=(FILES); }
    _message() { :; }
    _describe() { local name=\${@[-1]} entry; for entry in "\${(@P)name}"; do found+=("\${entry%%:*}"); done; }
    source "$1"
    offers() {
      local -a words found
      words=("$@"); local CURRENT=$# entry matching=()
      _newleaf
      for entry in $found; do [[ $entry == "\${words[-1]}"* ]] && matching+=($entry); done
      echo $matching
    }
    ${lines.map((words) => `offers ${words.map((word) => `'${word}'`).join(" ")}`).join("\n")}`,
  fish: (lines) => `source $argv[1]
${lines.map((words) => `echo (complete -C '${words.join(" ")}' | string replace -r '\\t.*' '')`).join("\n")}`,
};

async function offers(shell: Shell, lines: readonly (readonly string[])[]): Promise<readonly string[][]> {
  const dir = temporaryDirectory("completion");
  const [script, questions] = [join(dir, "newleaf"), join(dir, "questions")];
  const { code, out, err } = await newleaf(["completion", shell]);
  assert.equal(code, 0, err);
  await writeFile(script, out);
  await writeFile(questions, asking[shell](lines));
  const plain = { bash: ["--norc"], zsh: ["-f"], fish: ["--no-config"] }[shell];
  const { stdout, stderr } = await run(shell, [...plain, questions, script], { cwd: dir, env: process.env });
  assert.equal(stderr, "");
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(" ").filter((word) => word !== ""));
}

const sorted = (words: readonly string[] | undefined): string[] => [...new Set(words)].toSorted();

for (const shell of ["bash", "zsh", "fish"] as const) {
  describe(`completion of ${shell}`, { skip: needs(shell) }, () => {
    it("offers after each command what may stand there", async () => {
      // fish looks at every line of the script each time it is asked.
      const asked = commands.filter((_, index) => shell !== "fish" || index % 5 === 0);
      const answers = await offers(
        shell,
        asked.flatMap(({ path }) => [
          ["newleaf", ...path, ""],
          ["newleaf", ...path, "--"],
        ]),
      );
      for (const [index, { path, subcommands, options, words }] of asked.entries()) {
        const place = path.join(" ") || "newleaf";
        const names = [...subcommands.map(({ name }) => name), ...words];
        const long = options.flatMap((option) => option.names.filter((name) => name.startsWith("--")));
        const offered = (answers[index * 2] ?? []).filter((word) => !word.startsWith("-"));
        assert.deepEqual(sorted(offered), sorted(names), place);
        assert.deepEqual(sorted(answers[index * 2 + 1]), sorted(long), place);
      }
    });

    it("knows the values of an option, and goes on after it", async () => {
      const [states, begun, after, wild] = await offers(shell, [
        ["newleaf", "identity", "list", "--state", ""],
        ["newleaf", "identity", "list", "--state", "s"],
        ["newleaf", "identity", "list", "--state", "suspended", "--js"],
        ["newleaf", "no-such-command", "--vers"],
      ]);
      assert.deepEqual(sorted(states), ["active", "removed", "suspended"]);
      assert.deepEqual(begun, ["suspended"]);
      assert.deepEqual(after, ["--json"]);
      assert.deepEqual(wild, ["--version"]);
    });
  });
}

it("completion refuses a shell it does not know", async () => {
  const { code, err } = await newleaf(["completion", "tcsh"]);
  assert.equal(code, 2);
  assert.match(err, /bash, zsh, fish/);
});
