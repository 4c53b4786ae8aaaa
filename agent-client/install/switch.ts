import { readdir, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { replaceSymlink, syncDirectory, writeFileDurably } from "@newleaf/shared/durable-file";
import { checkTree } from "./access.ts";
import { type CopyOptions, prepareCopies, type PreparedCopies } from "./copies.ts";
import { isLeftover, leftoverOf, removeLeftover } from "./stage.ts";
import { currentLink, explained, InstallError, previousLink, type Target, versionPath, versionsOf } from "./target.ts";
import {
  confirmedMarker,
  faultsOf,
  hasMarker,
  isVersionName,
  linkedVersion,
  listEntries,
  listVersions,
  quarantineMarker,
  readRecord,
} from "./version.ts";

/**
 * Points `current` at a staged version, in one rename, and `previous` at the last good one before it. Every file a proxy opens
 * by way of `current` changes at once; copies at fixed paths are renamed one after another right before it. May be repeated after
 * a crash at any line.
 *
 * `previous` is the version that was in force, unless that one was never seen served and `previous` already names one that was:
 * the way back leads to what worked.
 *
 * @throws InstallError; also for a version that is incomplete or quarantined. Then `current` is as it was
 */
export async function switchTo(
  target: Target,
  version: string,
  options: CopyOptions = { adopt: false },
): Promise<Pick<PreparedCopies, "adopted">> {
  await checkVersion(target, version);
  // 1. Everything that can fail for want of space or rights.
  const { commit, adopted } = await prepareCopies(target, version, options);
  const current = await linkedVersion(currentLink(target));
  if (current !== version) {
    // 2. The way back, while the old version is still in force.
    const back = await wayBack(target, current);
    if (back !== null) await point(previousLink(target), back);
  }
  // 3. The copies; while they are not done `current` says which set they have to be, after a crash too.
  await commit();
  // 4. The switch; when it is already made, only its fsync (the crash may have come before it).
  if (current === version) await explained(`syncing ${target.directory}`, () => syncDirectory(target.directory));
  else await point(currentLink(target), version);
  return { adopted };
}

/**
 * Swaps `current` back to `previous` and returns the version now in force. Repeated, it changes nothing more: `previous` stays
 * what it is. Null, and nothing changed, when there is no version to go back to (the first one ever, or the one before is
 * incomplete or quarantined).
 * @throws InstallError
 */
export async function rollback(target: Target): Promise<string | null> {
  const previous = await linkedVersion(previousLink(target));
  if (previous === null) return null;
  if (await hasMarker(target, previous, quarantineMarker)) return null;
  if ((await faultsOf(target, previous)).length > 0) return null;
  const { commit } = await prepareCopies(target, previous, { adopt: false });
  await commit();
  await switchLink(target, previous);
  return previous;
}

/** Notes that `version` was seen served: from then on `previous` prefers it. May be repeated. @throws InstallError */
export async function confirm(target: Target, version: string): Promise<void> {
  if (!(await hasMarker(target, version, confirmedMarker))) await mark(target, version, confirmedMarker, "");
}

/** Marks a version so that it is never switched to again. `reason` is for people. May be repeated. @throws InstallError */
export async function quarantine(target: Target, version: string, reason: string): Promise<void> {
  await mark(target, version, quarantineMarker, `${reason}\n`);
}

/** Fingerprints (`sha256:…`) of the leaves whose version is quarantined, as far as their versions are still kept. */
export async function quarantined(target: Target): Promise<ReadonlySet<string>> {
  const fingerprints = new Set<string>();
  for (const version of await listVersions(target)) {
    if (!(await hasMarker(target, version, quarantineMarker))) continue;
    const record = await readRecord(target, version);
    if (record !== null) fingerprints.add(record.fingerprint);
  }
  return fingerprints;
}

/**
 * Deletes what is neither in force nor needed to go back: all but `current`, `previous` and the newest ones up to `keep`, and
 * whatever a crash left half made. For use after success. May be repeated. Returns the versions deleted.
 * @throws InstallError; then what is in force is untouched
 */
export async function prune(target: Target, keep = 3): Promise<readonly string[]> {
  await checkTree(target);
  const current = await linkedVersion(currentLink(target));
  const previous = await linkedVersion(previousLink(target));
  const versions = await listVersions(target);
  const kept = new Set([current, previous].filter((version) => version !== null));
  for (const version of versions.toReversed()) if (kept.size < keep) kept.add(version);
  // Without `current` nothing says which version matters: delete none.
  const gone = current === null ? [] : versions.filter((version) => !kept.has(version));
  for (const version of gone) {
    // Out of its name first: a crash while deleting never leaves a version that lacks files.
    const leftover = leftoverOf(version);
    await removeLeftover(target, leftover);
    await explained(`removing version ${version}`, () =>
      rename(versionPath(target, version), versionPath(target, leftover)),
    );
  }
  for (const entry of await listEntries(target)) if (isLeftover(entry)) await removeLeftover(target, entry);
  await removeTemporaryLinks(target);
  return gone;
}

async function checkVersion(target: Target, version: string): Promise<void> {
  if (!isVersionName(version))
    throw new InstallError(`"${version}" is not the name of a version in ${target.directory}`);
  if (await hasMarker(target, version, quarantineMarker)) {
    throw new InstallError(
      `version ${version} in ${versionsOf(target)} is quarantined, it broke the server before: stage a new one`,
    );
  }
  const faults = await faultsOf(target, version);
  if (faults.length > 0) {
    throw new InstallError(
      `version ${version} in ${versionsOf(target)} is not whole: ${faults.join("; ")}; stage it again`,
    );
  }
}

async function wayBack(target: Target, current: string | null): Promise<string | null> {
  if (current === null || (await faultsOf(target, current)).length > 0) return null;
  const previous = await linkedVersion(previousLink(target));
  if (previous === null || previous === current) return current;
  const proven = await hasMarker(target, current, confirmedMarker);
  const condemned = await hasMarker(target, current, quarantineMarker);
  const better = !condemned && (proven || !(await hasMarker(target, previous, confirmedMarker)));
  return better ? current : null;
}

async function switchLink(target: Target, version: string): Promise<void> {
  if ((await linkedVersion(currentLink(target))) !== version) await point(currentLink(target), version);
  else await explained(`syncing ${target.directory}`, () => syncDirectory(target.directory));
}

async function point(link: string, version: string): Promise<void> {
  // Relative: the tree may be mounted elsewhere in the proxy's container.
  await explained(`pointing ${link} at ${version}`, () => replaceSymlink(`versions/${version}`, link));
}

async function mark(target: Target, version: string, marker: string, text: string): Promise<void> {
  if (!isVersionName(version))
    throw new InstallError(`"${version}" is not the name of a version in ${target.directory}`);
  const path = join(versionPath(target, version), marker);
  await explained(`marking version ${version}`, () => writeFileDurably(path, text, { mode: 0o600 }));
}

/** A crash between symlink and rename leaves `.current.newleaf-…` behind. */
async function removeTemporaryLinks(target: Target): Promise<void> {
  await explained(`cleaning ${target.directory}`, async () => {
    for (const entry of await readdir(target.directory)) {
      if (/^\.(current|previous)\.newleaf-[0-9a-f]{8}$/.test(entry)) await unlink(join(target.directory, entry));
    }
  });
}
