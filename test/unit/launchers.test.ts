import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const launcher = join(import.meta.dirname, "..", "..", "bin", "node");

test("before npm ci, with bin/ first on PATH, the launcher finds the host's Node and not itself", async () => {
  const dir = await mkdtemp(join(tmpdir(), "newleaf-launcher-"));
  try {
    await mkdir(join(dir, "bin"));
    const own = join(dir, "bin", "node");
    await copyFile(launcher, own);
    const path = [join(dir, "bin"), dirname(process.execPath), "/usr/bin", "/bin"].join(":");
    const { stdout } = await run(own, ["--version"], { env: { PATH: path }, timeout: 10_000 });
    assert.equal(stdout.trim(), process.version);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
