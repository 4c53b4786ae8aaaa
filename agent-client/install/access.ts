/** Who may open the files of a version: what that should be, and whether it is. */
import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { stewardOf } from "../guarded-open.ts";
import { type FileName, isSecretFile } from "./material.ts";
import { type Owner, resolveOwner } from "./owner.ts";
import { InstallError, systemCode, type Target, versionPath, versionsOf } from "./target.ts";

/** Mode of the directories: 0700 while the agent's own uid is the reader, else passable (not listable) for others. */
export function directoryMode(target: Target, owner: Owner): number {
  return owner.uid === process.geteuid?.() && (target.mode & 0o077) === 0 ? 0o700 : 0o711;
}

/** Mode of one file. The key is never readable by others, whatever `mode` says. */
export function fileMode(target: Target, name: FileName): number {
  return isSecretFile(name) ? target.mode & 0o640 : target.mode & 0o666;
}

/**
 * The tree is the agent's own: files in it get an owner, the directories do not. Somebody else's could be replaced by a link at any
 * moment, and a root agent would make, give away and delete files wherever that leads.
 * @throws InstallError
 */
export async function checkTree(target: Target): Promise<void> {
  const { uid, place } = (await stewardOf(versionsOf(target))) ?? { uid: null, place: null };
  if (uid === null) return;
  const what = place ?? target.directory;
  throw new InstallError(
    `${what} belongs to uid ${uid}, who could lead the agent from there into any directory of this host: run "chown root ${what}", choose a \`directory\` elsewhere, or run the agent as that user; \`owner\` gives the files alone to the server`,
  );
}

/** Nothing to chown for files of the agent's own: without privileges even a chown to oneself may be refused (idmapped mounts). */
export function ownership(owner: Owner): { uid: number; gid: number } | Record<string, never> {
  return owner.uid === process.geteuid?.() && owner.gid === process.getegid?.() ? {} : owner;
}

/** What is wrong with mode and owner of a version's files, one sentence each. */
export async function faultsOfAccess(target: Target, version: string): Promise<readonly string[]> {
  const owner = await resolveOwner(target);
  const faults: string[] = [];
  for (const file of target.files) {
    try {
      const info = await lstat(join(versionPath(target, version), file));
      const mode = info.mode & 0o7777;
      const wanted = fileMode(target, file);
      if (mode !== wanted) faults.push(`${file} has mode ${octal(mode)} instead of ${octal(wanted)}`);
      if (info.uid !== owner.uid || info.gid !== owner.gid) {
        faults.push(`${file} belongs to ${info.uid}:${info.gid} instead of ${owner.uid}:${owner.gid}`);
      }
    } catch (error) {
      if (systemCode(error) !== "ENOENT") faults.push(`${file} cannot be looked at: ${String(error)}`);
    }
  }
  return faults;
}

function octal(mode: number): string {
  return `0${mode.toString(8).padStart(3, "0")}`;
}
