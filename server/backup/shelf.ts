/** The directory of backups: one directory each, named after its moment; one that is not finished ends in `.partial`. */
import { lstat, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "@newleaf/shared/durable-file";
import type { BackupSummary } from "../authority/backups.ts";
import { type Manifest, readManifest } from "./manifest.ts";

export const partialSuffix = ".partial";
/** What a removal works on: a half removed backup must not look like one. */
const removedSuffix = ".removed";
/** No backup takes that long between two of its files. */
const abandonedAfter = 3_600_000;
const backupName = /^\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z$/;

/** `2026-11-20T03-17-00Z`. */
export function nameOf(at: number): string {
  return new Date(Math.floor(at / 1000) * 1000).toISOString().replaceAll(":", "-").replace(".000", "");
}

/** Finished ones, newest first. What has no manifest that can be read is left out, and what somebody else put there. */
export async function listBackups(directory: string): Promise<readonly BackupSummary[]> {
  const summaries: BackupSummary[] = [];
  for (const name of await entriesOf(directory)) {
    if (!backupName.test(name)) continue;
    const path = join(directory, name);
    if (!(await isOwn(directory, path))) continue;
    const manifest = await readManifest(path).catch(() => null);
    if (manifest !== null) summaries.push(describe(name, path, manifest));
  }
  return summaries.toSorted((a, b) => b.createdAt - a.createdAt);
}

/** Ours, or of whom the directory is: on a file server that may be one for all. Others' would push ours out. */
async function isOwn(directory: string, path: string): Promise<boolean> {
  const entry = await lstat(path).catch(() => null);
  return (
    entry !== null &&
    entry.isDirectory() &&
    (entry.uid === process.geteuid?.() || entry.uid === (await stat(directory)).uid)
  );
}

export function describe(name: string, path: string, manifest: Manifest): BackupSummary {
  const { facts } = manifest;
  return {
    name,
    path,
    createdAt: Date.parse(manifest.createdAt),
    version: manifest.version,
    schema: facts.schema,
    size: manifest.files.reduce((sum, file) => sum + file.size, 0),
    encrypted: manifest.encrypted,
    holdsKeys: manifest.holdsKeys,
    certificates: facts.tables["certificates"] ?? 0,
    audit: facts.audit,
    crls: facts.crls,
    bundleVersion: facts.bundleVersion,
    journal: facts.journal,
  };
}

/** What an interrupted backup or removal left, once nobody can still be at it: two services may share the directory. */
export async function sweep(directory: string, now: number): Promise<void> {
  for (const name of await entriesOf(directory)) {
    const isUnfinished = [partialSuffix, removedSuffix].some(
      (suffix) => name.endsWith(suffix) && backupName.test(name.slice(0, -suffix.length)),
    );
    if (!isUnfinished) continue;
    const path = join(directory, name);
    const { mtimeMs } = await stat(path);
    if (now - mtimeMs > abandonedAfter) await rm(path, { recursive: true, force: true });
  }
}

/**
 * Removes all but the newest `keep` of the authority that made `newest`; only ever called when that one is complete. Answers those
 * that are left. Backups of another authority in the same directory are that one's own. What is dated after `newest` a clock dated that
 * was ahead: it goes first, or nothing made since would stay.
 */
export async function prune(directory: string, newest: BackupSummary, keep: number): Promise<readonly BackupSummary[]> {
  const all = (await listBackups(directory)).filter((each) => isSameAuthority(each, newest));
  const isAhead = (each: BackupSummary): boolean => each.createdAt > newest.createdAt;
  const mine = [...all.filter((each) => !isAhead(each)), ...all.filter(isAhead)];
  for (const { path } of mine.slice(Math.max(1, keep))) {
    await rename(path, `${path}${removedSuffix}`);
    await rm(`${path}${removedSuffix}`, { recursive: true, force: true });
  }
  await syncDirectory(directory);
  return mine.slice(0, Math.max(1, keep));
}

/** A CA that was rotated still has an issuer of before. */
export function isSameAuthority(a: Pick<BackupSummary, "crls">, b: Pick<BackupSummary, "crls">): boolean {
  return Object.keys(a.crls).some((issuer) => Object.hasOwn(b.crls, issuer));
}

async function entriesOf(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
