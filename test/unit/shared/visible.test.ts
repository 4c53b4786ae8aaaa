import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { visible } from "@newleaf/shared/visible";

const hostile = "a\u001b[2Jb\u009b31mc\u202ed\r\u{e0041}e\u2028f";

test("what could move a cursor or turn a line is spelled out, and the rest left as it is", () => {
  assert.equal(visible(hostile), String.raw`a\u001b[2Jb\u009b31mc\u202ed\u000d\udb40\udc41e\u2028f`);
  assert.equal(visible("ö 漢字 🙂\ttab\nline\n"), "ö 漢字 🙂\ttab\nline\n");
});

test("lines that end as in CSV are lines", () => {
  assert.equal(visible("a,b\r\nc\rd\r\r\n"), String.raw`a,b` + "\r\n" + String.raw`c\u000dd\u000d` + "\r\n");
});

test("JSON says the same after it", () => {
  const value = { "k\u009b": hostile, nested: [hostile, "\n"] };
  assert.deepEqual(JSON.parse(visible(JSON.stringify(value, null, 2))), value);
});

for (const program of ["newleaf", "newleaf-agent"]) {
  test(`${program} shows it so`, () => {
    const dir = mkdtempSync(join(tmpdir(), "newleaf-visible-"));
    try {
      const config = join(dir, "newleaf.yml");
      writeFileSync(config, `"un\u009b31mknown": 1\n`, { mode: 0o600 });
      const args = program === "newleaf" ? ["serve", "--check-config", "--data", dir] : ["check", "--config", config];
      const script = resolve(
        import.meta.dirname,
        "../../../",
        program === "newleaf" ? "server" : "agent-client",
        "main.ts",
      );
      let shown = "";
      try {
        execFileSync(process.execPath, [script, ...args], { stdio: "pipe" });
      } catch (error) {
        shown = String((error as { stderr: Buffer }).stderr);
      }
      assert.match(shown, /un\\u009b31mknown/);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
}
