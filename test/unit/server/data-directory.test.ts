import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { isFounded } from "../../../server/data-directory.ts";

const scratch = mkdtempSync(join(tmpdir(), "newleaf-founded-"));
after(() => rmSync(scratch, { recursive: true }));

test("a directory is founded or not; one that is closed to this user is called neither", () => {
  const founded = join(scratch, "data");
  mkdirSync(founded, { mode: 0o700 });
  assert.equal(isFounded(founded), false);
  assert.equal(isFounded(join(scratch, "absent")), false);
  writeFileSync(join(founded, "newleaf.yml"), "");
  assert.equal(isFounded(founded), true);
  const isRoot = process.getuid?.() === 0;
  chmodSync(scratch, 0o755);
  // Root may look everywhere, so the test becomes nobody; another user shuts the directory to itself.
  if (isRoot) process.seteuid?.(65534);
  else chmodSync(founded, 0);
  try {
    const message = /data is closed to this user \(uid \d+\); it belongs to uid \d+\. Run the command as its owner$/;
    assert.throws(() => isFounded(founded), { code: "not-permitted", message });
  } finally {
    if (isRoot) process.seteuid?.(0);
    else chmodSync(founded, 0o700);
  }
});
