import { statSync } from "node:fs";
import { AppError } from "@newleaf/shared/problems";

/**
 * For commands that open the data directory themselves: files that root makes in somebody else's would stop the service from starting.
 * @param command as it is to be repeated: `newleaf operator rescue …`
 * @throws AppError not-permitted
 */
export function requireOwner(dataDir: string, command: string): void {
  const { uid } = statSync(dataDir);
  const mine = process.geteuid?.();
  if (mine === undefined || mine === uid) return;
  throw new AppError(
    "not-permitted",
    `${dataDir} belongs to uid ${uid}, and this is uid ${mine}. Run it as its owner: sudo -u '#${uid}' ${command}`,
  );
}
