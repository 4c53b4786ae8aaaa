import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

/** A directory of the test's own, gone when its file or suite is done. */
export function temporaryDirectory(name: string): string {
  const directory = mkdtempSync(join(tmpdir(), `newleaf-${name}-`));
  after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
