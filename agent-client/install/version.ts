import { createHash } from "node:crypto";
import { access, constants, lstat, open, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { readWhole, UnfitFileError } from "../guarded-open.ts";
import { type FileName, fileNames, isKnownFile, isSecretFile, outputName, type VersionFacts } from "./material.ts";
import { explained, InstallError, systemCode, type Target, versionPath, versionsOf } from "./target.ts";

export const factsFile = "meta.json";
/** Markers start with a dot: a server pointed at the whole directory (HAProxy `crt DIR`) passes over them. */
export const confirmedMarker = ".served";
export const quarantineMarker = ".quarantined";

const versionName = /^\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?$/;

/** A CRL of a million entries is some 55 MB as PEM. */
const maxFile = 128 * 1024 * 1024;
const maxFacts = 1024 * 1024;

export interface FileFacts {
  readonly size: number;
  /** Null for files that hold the key: nothing derived from it is written where others may read. */
  readonly sha256: string | null;
}

/** `meta.json`. */
export interface VersionRecord extends VersionFacts {
  readonly files: Readonly<Record<string, FileFacts>>;
}

/** `20261120T103000Z-3f9c2a1b`: readable, sorts by time, and the same set staged again has the same name. */
export function nameOf(facts: VersionFacts, attempt: number): string {
  const time = new Date(facts.stagedAt)
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replaceAll(/[-:]/g, "");
  const digest = facts.fingerprint.slice("sha256:".length, "sha256:".length + 8);
  return `${time}-${digest}${attempt === 1 ? "" : `-${attempt}`}`;
}

export function isVersionName(name: string): boolean {
  return versionName.test(name);
}

/** Complete versions by name, oldest first; leftovers of a crash are not among them. */
export async function listVersions(target: Target): Promise<readonly string[]> {
  return (await listEntries(target)).filter(isVersionName).toSorted();
}

/** Whatever lies in `versions/`; nothing when there is no such directory yet. */
export async function listEntries(target: Target): Promise<readonly string[]> {
  return explained(`reading ${versionsOf(target)}`, async () => {
    try {
      return await readdir(versionsOf(target));
    } catch (error) {
      if (systemCode(error) === "ENOENT") return [];
      throw error;
    }
  });
}

/**
 * The version a link of ours (`current`, `previous`) names, or null when there is none. The version itself may be gone.
 * @throws InstallError when something that we did not make is in its place
 */
export async function linkedVersion(link: string): Promise<string | null> {
  return explained(`reading ${link}`, async () => {
    let to: string;
    try {
      to = await readlink(link);
    } catch (error) {
      if (systemCode(error) === "ENOENT") return null;
      if (systemCode(error) === "EINVAL") throw notOurs(link, "not a symbolic link");
      throw error;
    }
    const name = to.startsWith("versions/") ? to.slice("versions/".length) : "";
    if (!isVersionName(name)) throw notOurs(link, `a link to ${to}`);
    return name;
  });
}

function notOurs(link: string, what: string): InstallError {
  return new InstallError(`${link} is ${what}, which the agent did not make: move it away and run the agent again`);
}

/** `meta.json` of a version; null when it is missing or not what we write. */
export async function readRecord(target: Target, version: string): Promise<VersionRecord | null> {
  try {
    const text = await readInVersion(join(versionPath(target, version), factsFile), maxFacts);
    return parseRecord(JSON.parse(text.toString("utf8")));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof UnfitFileError) return null;
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return null;
    return explained(`reading ${factsFile} of version ${version}`, () => Promise.reject(error));
  }
}

/** What is missing from or altered in a version, one short sentence each; empty when it is whole. */
export async function faultsOf(
  target: Target,
  version: string,
  files: readonly FileName[] = target.files,
): Promise<readonly string[]> {
  const record = await readRecord(target, version);
  if (record === null) return [`${factsFile} of version ${version} is missing or not readable`];
  const faults: string[] = [];
  for (const file of files) {
    const known = record.files[file];
    if (known === undefined) faults.push(`${file} is not part of version ${version}`);
    else faults.push(...(await faultsOfFile(join(versionPath(target, version), file), file, known)));
  }
  return faults;
}

async function faultsOfFile(path: string, file: FileName, known: FileFacts): Promise<readonly string[]> {
  try {
    const info = await lstat(path);
    if (!info.isFile()) return [`${file} is not a regular file`];
    if (info.size !== known.size) return [`${file} was altered`];
    const data = await readInVersion(path);
    if (data.length !== known.size || (known.sha256 !== null && digest(data) !== known.sha256)) {
      return [`${file} was altered`];
    }
    return [];
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [`${file} is missing`];
    return [`${file} cannot be read: ${String(error)}`];
  }
}

/** A file of a version: it belongs to whom the server runs as, who may make it as large as the disk. @throws Error */
export async function readInVersion(path: string, maxBytes = maxFile): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    return await readWhole(file, path, maxBytes);
  } finally {
    await file.close();
  }
}

export function fileFacts(name: FileName, data: Buffer): FileFacts {
  return { size: data.length, sha256: isSecretFile(name) ? null : digest(data) };
}

export async function hasMarker(target: Target, version: string, marker: string): Promise<boolean> {
  try {
    await access(join(versionPath(target, version), marker));
    return true;
  } catch {
    return false;
  }
}

function digest(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

function parseRecord(value: unknown): VersionRecord | null {
  if (!isRecord(value)) return null;
  const { fingerprint, notAfter, bundleVersion, stagedAt, crlNumbers, files, recipe } = value;
  if (typeof fingerprint !== "string" || typeof notAfter !== "number" || typeof bundleVersion !== "number") return null;
  if (typeof stagedAt !== "number" || !isRecord(crlNumbers) || !isRecord(files)) return null;
  if (!Object.values(crlNumbers).every((number) => typeof number === "number")) return null;
  if (recipe !== undefined && typeof recipe !== "string") return null;
  const known: Record<string, FileFacts> = {};
  for (const [name, facts] of Object.entries(files)) {
    if ((!isKnownFile(name) && outputName(name) === null) || !isRecord(facts) || typeof facts["size"] !== "number")
      return null;
    const sha256 = facts["sha256"];
    if (sha256 !== null && typeof sha256 !== "string") return null;
    known[name] = { size: facts["size"], sha256 };
  }
  return {
    fingerprint,
    notAfter,
    bundleVersion,
    stagedAt,
    crlNumbers: crlNumbers as Record<string, number>,
    files: known,
    ...(recipe === undefined ? {} : { recipe }),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `files` in the order of the contract, the outputs of templates after them, each once. */
export function inOrder(files: Iterable<FileName>): readonly FileName[] {
  const asked = new Set(files);
  return [
    ...fileNames.filter((name) => asked.has(name)),
    ...[...asked].filter((name) => !isKnownFile(name)).toSorted(),
  ];
}
