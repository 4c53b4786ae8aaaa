import { type Clock, systemClock } from "@newleaf/shared/clock";
import { run } from "../../server/cli/program.ts";
import type { Terminal } from "../../server/cli/terminal.ts";

export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface CommandOptions {
  /** What a person types at each question, secrets included; without it there is no terminal. */
  readonly answers?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
}

/** Runs `newleaf …` in this process, through the same door as the program. */
export async function newleaf(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const written = { out: "", err: "" };
  const answers = [...(options.answers ?? [])];
  const answer = (question: string): Promise<string> => {
    written.err += `${question}\n`;
    const next = answers.shift();
    return next === undefined ? Promise.reject(new Error(`nobody answers: ${question}`)) : Promise.resolve(next);
  };
  const terminal: Terminal = {
    out: (text) => void (written.out += text),
    err: (text) => void (written.err += text),
    isInteractive: options.answers !== undefined,
    ask: answer,
    askSecret: answer,
    env: options.env ?? {},
    clock: options.clock ?? systemClock,
  };
  const code = await run(argv, terminal);
  return { code, ...written };
}
