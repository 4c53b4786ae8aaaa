import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { describeSystemError, systemCause } from "../../../../server/cli/system-error.ts";

function failureOf(act: () => unknown): NodeJS.ErrnoException {
  try {
    act();
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error("it did not fail");
}

test("what the system refused is said in words, with the path and the system's own word", () => {
  const directory = mkdtempSync(join(tmpdir(), "newleaf-system-error-"));
  try {
    const missing = failureOf(() => readFileSync(join(directory, "none")));
    assert.equal(systemCause(missing), "there is no such file or directory, ENOENT");
    assert.equal(
      describeSystemError(missing),
      `${join(directory, "none")}: there is no such file or directory, ENOENT (open)`,
    );
    writeFileSync(join(directory, "one"), "");
    const there = failureOf(() => writeFileSync(join(directory, "one"), "", { flag: "wx" }));
    assert.match(describeSystemError(there), /one: it is there already; nothing is written over, EEXIST \(open\)$/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("what has no words here keeps the system's message", () => {
  const odd: NodeJS.ErrnoException = Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE" });
  assert.equal(systemCause(odd), "EMFILE");
  assert.equal(describeSystemError(odd), "EMFILE: too many open files");
});
