import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { LockTakenError, processLockHolder, takeProcessLock } from "@newleaf/shared/process-lock";

let scratch: string;
let count = 0;

async function directory(): Promise<string> {
  const path = join(scratch, String((count += 1)));
  await mkdir(path, { mode: 0o700 });
  return path;
}

const holder = (name: string) => (error: unknown) => error instanceof LockTakenError && error.holder === name;

describe("the process lock", () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), "newleaf-lock-"));
  });
  after(() => rm(scratch, { recursive: true, force: true }));

  it("is one process's until it lets go, and names it meanwhile", async () => {
    const at = await directory();
    const first = await takeProcessLock(at, "agent", "the first");
    await assert.rejects(takeProcessLock(at, "agent", "the second"), holder("the first"));
    assert.equal(await processLockHolder(at, "agent"), "the first");
    await using other = await takeProcessLock(at, "renewing", "of another name");
    assert.ok(other);
    await first[Symbol.asyncDispose]();
    assert.equal(await processLockHolder(at, "agent"), null);
    await using second = await takeProcessLock(at, "agent", "the second");
    assert.ok(second);
  });

  it("is never two processes', however many come at once, and somebody gets it", async () => {
    const at = await directory();
    for (let round = 0; round < 5; round += 1) {
      const all = await Promise.allSettled(
        Array.from({ length: 6 }, (_, index) => takeProcessLock(at, "agent", `number ${index}`)),
      );
      const held = all.filter((one) => one.status === "fulfilled").map((one) => one.value);
      assert.ok(held.length <= 1, `${held.length} have it`);
      for (const lock of held) await lock[Symbol.asyncDispose]();
    }
    await using alone = await takeProcessLock(at, "agent", "alone");
    assert.ok(alone);
    assert.equal((await readdir(at)).length, 1, "nothing is left of those who stepped back");
  });

  it("is free again after kill -9, and what the dead left is removed", async () => {
    const at = await directory();
    const script = `
      const { takeProcessLock } = await import("@newleaf/shared/process-lock");
      await takeProcessLock(${JSON.stringify(at)}, "agent", "the dead");
      console.log("held");
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    await assert.rejects(takeProcessLock(at, "agent", "the next"), holder("the dead"));
    child.kill("SIGKILL");
    await once(child, "exit");
    await using next = await takeProcessLock(at, "agent", "the next");
    assert.ok(next);
    assert.equal((await readdir(at)).length, 1);
  });

  it("waits no longer than a moment for a holder that says nothing, or more than it should", async () => {
    const at = await directory();
    for (const say of ["", "\u001b[2Jnothing to see\u009b0m ", "x"]) {
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.write(say);
        if (say !== "x") return;
        const drip = setInterval(() => socket.write("xx"), 100);
        socket.on("close", () => clearInterval(drip));
      });
      await new Promise<void>((listening) => server.listen(join(at, ".agent-0123456789abcdef.sock"), listening));
      const begun = performance.now();
      const answer = await processLockHolder(at, "agent");
      assert.ok(performance.now() - begun < 2_000);
      assert.match(answer ?? "", /^[\x20-\x7e]+$/);
      await new Promise<void>((closed) => server.close(() => closed()));
    }
  });

  it("holds in a directory whose path is longer than a socket's may be", async () => {
    const at = join(await directory(), "d".repeat(120));
    await mkdir(at);
    await using lock = await takeProcessLock(at, "agent", "far down");
    assert.ok(lock);
    await assert.rejects(takeProcessLock(at, "agent", "second"), holder("far down"));
  });
});
