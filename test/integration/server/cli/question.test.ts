/** The y/N question on a real terminal. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../../../support/programs.ts";

const terminal = join(import.meta.dirname, "../../../../server/cli/terminal.ts");

test("Ctrl-C at a question is a refusal that says that nothing was changed", { skip: needs("script") }, async () => {
  const asking = `import { confirm, processTerminal } from ${JSON.stringify(terminal)};
    await confirm(processTerminal(process.env), "Remove it?", undefined).catch((e) => { console.log("SAID " + e.message); process.exitCode = 1; });`;
  const child = spawn("script", ["-qec", `"$NODE" --input-type=module-typescript -e "$ASKING"`, "/dev/null"], {
    env: { ...process.env, NODE: process.execPath, ASKING: asking },
  });
  let shown = "";
  let isAsked = false;
  child.stdout.on("data", (chunk: Buffer) => {
    shown += chunk.toString();
    if (isAsked || !shown.includes("[y/N]")) return;
    isAsked = true;
    child.stdin.write("\u0003");
  });
  const [code] = (await once(child, "close")) as [number | null];
  assert.equal(code, 1, shown);
  assert.match(shown, /SAID Interrupted at the question; nothing was changed/);
});
