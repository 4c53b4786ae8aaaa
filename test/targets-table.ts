/**
 * Runs every target under full traffic and writes what was measured into docs/gateways/README.md: `bin/node test/targets-table.ts`.
 * With names of targets' tests (`nginx haproxy`) it runs these, and keeps the other rows.
 */
import { spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TargetRow } from "./support/target.ts";
import { withTable } from "./support/targets-table.ts";

const root = join(import.meta.dirname, "..");
const document = join(root, "docs", "gateways", "README.md");
const rows = mkdtempSync(join(tmpdir(), "newleaf-targets-"));
try {
  // One after the other: what one run costs must not be another's doing.
  const names = process.argv.slice(2);
  const patterns = (names.length === 0 ? ["*"] : names).map((name) => `test/integration/targets/${name}.test.ts`);
  const tests = globSync(patterns, { cwd: root }).toSorted();
  const run = spawnSync(process.execPath, ["--test", "--test-concurrency=1", "--test-reporter=spec", ...tests], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, NEWLEAF_FULL_TRAFFIC: "1", NEWLEAF_TARGET_ROWS: rows },
  });
  const measured = readdirSync(rows).map((name) => JSON.parse(readFileSync(join(rows, name), "utf8")) as TargetRow);
  writeFileSync(document, withTable(readFileSync(document, "utf8"), measured, names.length === 0 ? "dropped" : "kept"));
  console.log(`${measured.length} rows in ${document}`);
  process.exitCode = run.status ?? 1;
} finally {
  rmSync(rows, { recursive: true, force: true });
}
