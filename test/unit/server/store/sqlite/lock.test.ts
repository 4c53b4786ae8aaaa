import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { lockDatabase } from "../../../../../server/store/sqlite/lock.ts";

const scratch = mkdtempSync(join(tmpdir(), "newleaf-lock-"));
after(() => rmSync(scratch, { recursive: true }));

test("one holder at a time, and the next one after it", async () => {
  const path = join(scratch, "newleaf.db");
  const first = await lockDatabase(path);
  await assert.rejects(lockDatabase(path), { code: "conflict", message: /Another process has the database/ });
  first[Symbol.dispose]();
  (await lockDatabase(path))[Symbol.dispose]();
});

test("a place that cannot be used is not called taken", async () => {
  const path = join(scratch, "unusable.db");
  mkdirSync(`${path}.lock`);
  const message = /The database cannot be used: .*unusable\.db\.lock: unable to open database file\. Is the disk full/;
  await assert.rejects(lockDatabase(path), { code: "issuer-unavailable", message });
  await assert.rejects(lockDatabase(join(scratch, "absent", "newleaf.db")), { code: "issuer-unavailable" });
});
