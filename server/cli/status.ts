/** `newleaf status` */
import type { Command } from "commander";
import { readingCommand, withClient } from "./admin-command.ts";
import { asJson, asRecord } from "./output.ts";
import type { Terminal } from "./terminal.ts";

export function addStatusCommand(program: Command, terminal: Terminal): void {
  readingCommand(program, {
    usage: "status",
    summary: "what exists, what is near its end, what waits, what is not served",
    examples: ["newleaf status", "newleaf status --json"],
  }).action(
    withClient(terminal, async ({ client, json }) => {
      const status = await client.get("/v1/status");
      terminal.out(json ? asJson(status) : asRecord(status));
    }),
  );
}
