/** What a command may do to the outside beside its work: write, ask. Tests hand in their own. */
import { AppError } from "@newleaf/shared/problems";
import { createInterface } from "node:readline/promises";
import { type Clock, systemClock } from "@newleaf/shared/clock";
import { visible } from "@newleaf/shared/visible";
import type { Environment } from "../config.ts";
import { UsageError } from "./usage-error.ts";

export interface Terminal {
  /** Results. The text brings its own line ends. */
  out(text: string): void;
  /** Messages for people. */
  err(text: string): void;
  /** Somebody is there to answer. */
  readonly isInteractive: boolean;
  ask(question: string): Promise<string>;
  /** Without echo. */
  askSecret(question: string): Promise<string>;
  readonly env: Environment;
  readonly clock: Clock;
}

export function processTerminal(env: Environment): Terminal {
  // Whoever reads our output may have seen enough (`… | head -1`): that is no failure.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
  return {
    out: (text) => void process.stdout.write(visible(text)),
    err: (text) => void process.stderr.write(visible(text)),
    isInteractive: process.stdin.isTTY && process.stderr.isTTY,
    ask: askLine,
    askSecret,
    env,
    clock: systemClock,
  };
}

/**
 * Asks before harm. `--yes` answers for the operator; anything but y or yes is no.
 * @throws UsageError when there is nobody to ask and no `--yes`
 */
export async function confirm(terminal: Terminal, question: string, yes: boolean | undefined): Promise<boolean> {
  if (yes === true) return true;
  if (!terminal.isInteractive) {
    throw new UsageError(`${question} There is no terminal to ask on; repeat the command with --yes if you mean it.`);
  }
  const answer = (await terminal.ask(`${question} [y/N] `)).trim().toLowerCase();
  if (answer === "y" || answer === "yes") return true;
  terminal.err("Nothing was changed.\n");
  return false;
}

async function askLine(question: string): Promise<string> {
  // The question goes to stderr: stdout may be a file that takes the result.
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(visible(question));
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "AbortError") throw error;
    // Ctrl-C or Ctrl-D at a question: the answer is no, and whoever looks at the exit code knows that nothing was done.
    throw new AppError("conflict", "Interrupted at the question; nothing was changed");
  } finally {
    lines.close();
  }
}

const endOfText = "\u0003";
const endOfTransmission = "\u0004";

/** Reads a line with the terminal's echo off: raw mode, in which also Ctrl-C, Ctrl-D and Backspace arrive as characters. */
async function askSecret(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stdin.setRawMode(true);
  stdin.setEncoding("utf8");
  stderr.write(question);
  let text = "";
  try {
    for await (const chunk of stdin.iterator({ destroyOnReturn: false }) as AsyncIterable<string>) {
      const end = chunk.search(/[\r\n]/);
      for (const character of end < 0 ? chunk : chunk.slice(0, end)) {
        if (character === endOfText || character === endOfTransmission) {
          throw new UsageError("No passphrase was given.");
        }
        text = character === "\u007f" || character === "\b" ? [...text].slice(0, -1).join("") : text + character;
      }
      if (end < 0) continue;
      // Typed ahead or pasted: it answers the next question.
      if (end + 1 < chunk.length) stdin.unshift(chunk.slice(end + 1), "utf8");
      return text;
    }
    throw new UsageError("No passphrase was given.");
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    stderr.write("\n");
  }
}
