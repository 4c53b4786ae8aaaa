import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { createFileExclusively, makeDirectory, syncDirectory } from "@newleaf/shared/durable-file";
import { checkTree, directoryMode, faultsOfAccess, fileMode, ownership } from "./access.ts";
import type { FileName, VersionFacts } from "./material.ts";
import { impassableDirectory, type Owner, resolveOwner } from "./owner.ts";
import { explained, InstallError, systemCode, type Target, versionPath, versionsOf } from "./target.ts";
import {
  factsFile,
  faultsOf,
  fileFacts,
  type FileFacts,
  inOrder,
  listEntries,
  nameOf,
  readInVersion,
  readRecord,
  type VersionRecord,
} from "./version.ts";

/**
 * Writes a complete version beside the one in force and changes nothing else: a proxy that opens its files meanwhile sees the
 * old set. The version appears under its name only when every byte is on the disk. May be repeated after a crash at any line:
 * the same files and facts give the same version, and what the crash left half made is removed.
 *
 * The files lie inside the target's own tree, so that file system and SELinux type are right, and get a fresh inode and time
 * (nginx ≥ 1.27.4 keeps what it has when both are unchanged).
 *
 * @throws InstallError (`code` ENOSPC, EPERM … when the system said no); then nothing of the new version is left
 */
export async function stage(
  target: Target,
  files: ReadonlyMap<FileName, Buffer>,
  facts: VersionFacts,
): Promise<{ version: string }> {
  const missing = target.files.filter((name) => !files.has(name));
  if (missing.length > 0) throw new InstallError(`staging ${target.directory}: no content for ${missing.join(", ")}`);
  const owner = await resolveOwner(target);
  await prepareTree(target, owner);
  const record = recordOf(facts, files);
  for (let attempt = 1; ; attempt += 1) {
    const version = nameOf(facts, attempt);
    const known = (await listEntries(target)).includes(version);
    if (known && (await isSame(target, version, record, files))) return { version };
    // Another set of the same second and leaf (a new CRL), or a damaged one: never written over, it may be in force.
    if (!known) return { version: await write(target, version, files, record, owner) };
  }
}

async function prepareTree(target: Target, owner: Owner): Promise<void> {
  await checkTree(target);
  const mode = directoryMode(target, owner);
  await explained(`making ${versionsOf(target)}`, () => makeDirectory(versionsOf(target), mode));
  for (const entry of await listEntries(target)) {
    if (isLeftover(entry)) await removeLeftover(target, entry);
  }
  // Only this tree: above it the reader may see another path (a volume mounted into its container).
  const stuck = await explained(`looking at ${versionsOf(target)}`, () =>
    impassableDirectory(versionsOf(target), owner, target.directory),
  );
  if (stuck !== null) {
    throw new InstallError(
      `uid ${owner.uid}, which is to read the files, cannot pass ${stuck}: run "chmod a+x ${stuck}"`,
    );
  }
}

async function write(
  target: Target,
  version: string,
  files: ReadonlyMap<FileName, Buffer>,
  record: VersionRecord,
  owner: Owner,
): Promise<string> {
  const leftover = leftoverOf(version);
  const partial = versionPath(target, leftover);
  try {
    return await explained(`writing version ${version} in ${versionsOf(target)}`, async () => {
      // 1. A directory that nobody else can enter: no descriptor to a file can exist before the file has its owner and mode.
      await mkdir(partial, { mode: 0o700 });
      // The umask may have cut it.
      await chmod(partial, 0o700);
      // 2. Each file with its mode at open, owner and mode again, content, fsync.
      for (const [name, data] of files) {
        const mode = fileMode(target, name);
        await createFileExclusively(join(partial, name), data, { mode, ...ownership(owner) });
      }
      const mode = (target.mode & 0o644) | 0o600;
      const text = `${JSON.stringify(record, null, 2)}\n`;
      // Not the owner's: who could write it could have every later CRL refused as older than this one.
      await createFileExclusively(join(partial, factsFile), text, { mode });
      // 3. Open the directory to its readers, and fsync it.
      await chmod(partial, directoryMode(target, owner));
      await syncDirectory(partial);
      // 4. Only now the version has its name.
      await rename(partial, versionPath(target, version));
      await syncDirectory(versionsOf(target));
      return version;
    });
  } catch (error) {
    await removeLeftover(target, leftover).catch(() => undefined);
    throw error;
  }
}

function recordOf(facts: VersionFacts, files: ReadonlyMap<FileName, Buffer>): VersionRecord {
  const known: Record<string, FileFacts> = {};
  for (const name of inOrder(files.keys())) {
    const data = files.get(name);
    if (data !== undefined) known[name] = fileFacts(name, data);
  }
  const { fingerprint, notAfter, bundleVersion, crlNumbers, stagedAt, recipe } = facts;
  const made = recipe === undefined ? {} : { recipe };
  return { fingerprint, notAfter, bundleVersion, crlNumbers, stagedAt, ...made, files: known };
}

async function isSame(
  target: Target,
  version: string,
  record: VersionRecord,
  contents: ReadonlyMap<FileName, Buffer>,
): Promise<boolean> {
  const known = await readRecord(target, version);
  if (known === null || JSON.stringify(known.files) !== JSON.stringify(record.files)) return false;
  const files = inOrder(Object.keys(record.files) as FileName[]);
  // Sizes alone do not tell one keystore from another: the recipe does.
  if (known.recipe !== record.recipe) return false;
  if (known.fingerprint !== record.fingerprint) return false;
  // Another hand may have changed who can read it: that is not mended in place either.
  const faults = [...(await faultsOf(target, version, files)), ...(await faultsOfAccess(target, version))];
  if (faults.length > 0) return false;
  // Of files with the key the record has the size only: another key put in its place would be taken for ours again and again.
  for (const [name, data] of contents) {
    if (!(await readInVersion(join(versionPath(target, version), name))).equals(data)) return false;
  }
  return true;
}

/** What a version is called while it is being written, and again while it is being deleted. */
export function leftoverOf(version: string): string {
  return `.${version}.partial`;
}

export function isLeftover(entry: string): boolean {
  return entry.startsWith(".") && entry.endsWith(".partial");
}

export async function removeLeftover(target: Target, entry: string): Promise<void> {
  const path = versionPath(target, entry);
  await explained(`removing ${path}`, async () => {
    try {
      await rm(path, { recursive: true });
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
    }
  });
}
