import type { FileName, VersionFacts } from "./material.ts";
import { InstallError, type Target } from "./target.ts";

/**
 * Writes a complete version beside the one in force and changes nothing else.
 * @throws InstallError
 */
export async function stage(
  target: Target,
  files: ReadonlyMap<FileName, Buffer>,
  facts: VersionFacts,
): Promise<{ version: string }> {
  throw new InstallError(`not written yet ${target.directory} ${files.size} ${facts.fingerprint}`);
}
