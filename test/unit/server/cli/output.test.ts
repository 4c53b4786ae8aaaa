import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { asTable, moment, printable } from "../../../../server/cli/output.ts";
import { version } from "../../../../server/version.ts";

suite("output", () => {
  test("a table is as wide as its widest cell, without trailing blanks", () => {
    assert.equal(
      asTable(
        ["ID", "STATE"],
        [
          ["a", "active"],
          ["longer", ""],
        ],
        "none",
      ),
      "ID      STATE\na       active\nlonger\n",
    );
    assert.equal(asTable(["ID"], [], "There is nothing."), "There is nothing.\n");
  });

  test("what strangers wrote cannot move the cursor, colour the screen or turn the text around", () => {
    assert.equal(printable("a\u001b[31mred\u0007\r\n\u202eb"), "a?[31mred????b");
    assert.ok(!asTable(["ID"], [["x\u001b[2J"]], "").includes("\u001b"));
  });

  test("a moment says when and how far away", () => {
    const now = Date.parse("2026-11-20T12:00:00Z");
    assert.equal(moment("2026-11-30T12:00:00Z", now), "2026-11-30 12:00 (in 10d)");
    assert.equal(moment("2026-11-20T11:59:00Z", now), "2026-11-20 11:59 (60s ago)");
    assert.equal(moment("2026-11-20T15:00:00Z", now), "2026-11-20 15:00 (in 3h)");
    assert.equal(moment(null, now), "-");
  });

  test("the version is that of every package", () => {
    for (const path of ["package.json", "server/package.json", "agent-client/package.json", "shared/package.json"]) {
      const parsed = JSON.parse(readFileSync(join(import.meta.dirname, "../../../..", path), "utf8")) as {
        version: string;
      };
      assert.equal(parsed.version, version, path);
    }
  });
});
