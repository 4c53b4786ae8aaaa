/** The directory of backups: one directory each, named after its moment; one that is not finished ends in `.partial`. */
import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "@newleaf/shared/durable-file";
import type { BackupSummary } from "../authority/backups.ts";
import { type Manifest, readManifest } from "./manifest.ts";

export const partialSuffix = ".partial";
/** What a removal works on: a half removed backup must not look like one. */
const removedSuffix = ".removed";
const backupName = /^\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z$/;

/** `2026-11-20T03-17-00Z`. */
export function nameOf(at: number): string {
  return new Date(Math.floor(at / 1000) * 1000).toISOString().replaceAll(":", "-").replace(".000", "");
}

/** Finished ones, newest first. What has no manifest that can be read is left out. */
export async function listBackups(directory: string): Promise<readonly BackupSummary[]> {
  const summaries: BackupSummary[] = [];
  for (const name of await entriesOf(directory)) {
    if (!backupName.test(name)) continue;
    const path = join(directory, name);
    const manifest = await readManifest(path).catch(() => null);
    if (manifest !== null) summaries.push(describe(name, path, manifest));
  }
  return summaries.toSorted((a, b) => b.createdAt - a.createdAt);
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

/** What an interrupted backup or removal left. Not to be called while one is being made. */
export async function sweep(directory: string): Promise<void> {
  for (const name of await entriesOf(directory)) {
    const isOurs = [partialSuffix, removedSuffix].some(
      (suffix) => name.endsWith(suffix) && backupName.test(name.slice(0, -suffix.length)),
    );
    if (isOurs) await rm(join(directory, name), { recursive: true, force: true });
  }
}

/** Removes all but the newest `keep`; only ever called when a newer one is complete. Answers those that are left. */
export async function prune(directory: string, keep: number): Promise<readonly BackupSummary[]> {
  const all = await listBackups(directory);
  for (const { path } of all.slice(Math.max(1, keep))) {
    await rename(path, `${path}${removedSuffix}`);
    await rm(`${path}${removedSuffix}`, { recursive: true, force: true });
  }
  await syncDirectory(directory);
  return all.slice(0, Math.max(1, keep));
}

async function entriesOf(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
