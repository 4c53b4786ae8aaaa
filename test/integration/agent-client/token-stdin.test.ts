/** A token by way of stdin: pasted, or from a program that takes its time. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { describeFailure } from "../../../agent-client/commands.ts";

const launcher = join(import.meta.dirname, "../../../bin/newleaf-agent");
const scratch = mkdtempSync(join(tmpdir(), "newleaf-token-"));
const config = join(scratch, "agent.yml");

before(() => {
  const lines = [
    "server: https://127.0.0.1:1",
    "enrollment: https://127.0.0.1:1",
    `state: ${scratch}/state`,
    `certificates: [{ name: gateway, directory: ${scratch}/gateway, reload: watch, probe: none }]`,
  ];
  writeFileSync(config, lines.join("\n"));
});
after(() => rmSync(scratch, { recursive: true }));

async function enroll(write: (stdin: NodeJS.WritableStream) => Promise<void>): Promise<{ code: number; err: string }> {
  const child = spawn(launcher, ["enroll", "--config", config, "--token-file", "-"], {
    env: { ...process.env, NEWLEAF_NODE: process.execPath },
    stdio: ["pipe", "ignore", "pipe"],
  });
  let err = "";
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const closed = once(child, "close") as Promise<[number]>;
  await write(child.stdin);
  const [code] = await closed;
  child.stdin.destroy();
  return { code, err };
}

test("a token that comes late, ended by Enter and by nothing else, is read", async () => {
  const { code, err } = await enroll(async (stdin) => {
    await sleep(1500);
    stdin.write("\nsome-text\n");
  });
  assert.match(err, /^newleaf-agent: token-invalid: This is not an enrollment token/);
  assert.equal(code, 1);
});

test("what the system refuses is told with what helps", () => {
  const refused = Object.assign(new Error("EACCES: permission denied, open '/state/trust.json'"), { code: "EACCES" });
  assert.equal(
    describeFailure(refused),
    "newleaf-agent: EACCES: permission denied, open '/state/trust.json'\n  do: run it as the user that owns the state directory (with the unit of deploy/systemd: root)\n",
  );
  assert.equal(describeFailure(undefined), "newleaf-agent: undefined\n");
});

test("an end without a token is wrong usage", async () => {
  const { code, err } = await enroll(async (stdin) => void stdin.end());
  assert.match(err, /there is no token on stdin/);
  assert.equal(code, 2);
});
