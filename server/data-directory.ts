/** Whether an authority was founded in a directory; not to be confused with not being allowed to look. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import { configFile } from "./config.ts";

/** @throws AppError not-permitted when this user may not look into the directory */
export function isFounded(dataDir: string): boolean {
  try {
    statSync(join(dataDir, configFile));
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EACCES" && code !== "EPERM") return false;
    throw new AppError(
      "not-permitted",
      `${dataDir} is closed to this user (uid ${process.geteuid?.()})${ownerOf(dataDir)}. Run the command as its owner`,
    );
  }
}

function ownerOf(dataDir: string): string {
  try {
    return `; it belongs to uid ${statSync(dataDir).uid}`;
  } catch {
    return "";
  }
}
