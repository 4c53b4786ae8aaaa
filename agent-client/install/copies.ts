/**
 * Copies at fixed paths, for programs that cannot follow links. Between the first rename and the last such a program may read
 * files of two versions: that is what links and `current` are for, and copies cannot have. The gap is made as short as it can be,
 * and `copies.json` in the target's directory sees to it that no crash makes it longer.
 */
import { constants, lstat, open, readFile, readlink, realpath, rename, unlink } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { createFileExclusively, replaceSymlink, syncDirectory, writeFileDurably } from "@newleaf/shared/durable-file";
import { inDirectoryOf, readWhole } from "../guarded-open.ts";
import { keepAside, setAside } from "./links.ts";
import type { FileName } from "./material.ts";
import { type Owner, resolveOwner } from "./owner.ts";
import { fileMode, ownership } from "./access.ts";
import { currentLink, explained, InstallError, systemCode, type Target, versionPath } from "./target.ts";
import { faultsOf, hasMarker, linkedVersion, quarantineMarker, readInVersion } from "./version.ts";

/**
 * `ours`: a file that the agent wrote, or that is what it would write, or a link of ours. `file`, `link`, `directory`: somebody
 * else's. `mount-point`: the path itself is mounted, and no rename can replace it.
 */
export type CopyState = "absent" | "ours" | "file" | "link" | "directory" | "mount-point" | "no-parent";

export interface CopyReport {
  readonly path: string;
  readonly file: FileName;
  readonly state: CopyState;
}

export interface CopyOptions {
  /** What is in the way is moved aside. */
  readonly adopt: boolean;
  /** Called after each rename; tests stop the process there. */
  readonly checkpoint?: (name: string) => void;
}

/** Everything is on the disk, under temporary names; only the renames are left. */
export interface PreparedCopies {
  readonly adopted: readonly { readonly path: string; readonly movedTo: string }[];
  /** Puts the copies in place. When that fails half way, what is done is undone. @throws InstallError */
  commit(): Promise<void>;
}

const journalFile = "copies.json";
/** What is put back when a later rename fails: far more than a certificate or a template has. */
const maxKept = 16 * 1024 * 1024;
const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.newleaf-copy`);

interface Journal {
  readonly format: 1;
  /** What the copies are of, or are to be of. */
  readonly version: string;
  /** False from before the first rename until after the last. */
  readonly done: boolean;
  /** Every path that was ever written: only those are ours. */
  readonly paths: readonly string[];
}

/** What is at each configured path now. Changes nothing. @throws InstallError when a path cannot be looked at */
export async function inspectCopies(
  target: Target,
  contents?: ReadonlyMap<FileName, Buffer>,
): Promise<readonly CopyReport[]> {
  const known = (await readJournal(target))?.paths ?? [];
  const mounts = await mountPoints();
  const reports: CopyReport[] = [];
  for (const [path, file] of Object.entries(target.copies ?? {})) {
    const isKnown = known.includes(path);
    const state = await explained(`looking at the copy ${path}`, () =>
      inspect(target, path, { isKnown, mounts, wanted: contents?.get(file) }),
    );
    reports.push({ path, file, state });
  }
  return reports;
}

/** Says why a copy would be refused, or null when it would not. */
export function copyProblem({ path, state }: CopyReport, options: { adopt: boolean }): string | null {
  const adoptable = `run once with --adopt to have it moved aside to ${path}${setAside}, or remove it, or take the path out of copies`;
  switch (state) {
    case "ours":
    case "absent":
      return null;
    case "file":
      return options.adopt ? null : `${path} is a file that the agent did not make: ${adoptable}`;
    case "link":
      return options.adopt ? null : `${path} is a link that the agent did not make: ${adoptable}`;
    case "directory":
      return `${path} is a directory, or something else that is neither a file nor a link: move it away, or name a path inside it in copies`;
    case "mount-point":
      return `${path} is mounted as a single file, which nothing can replace: mount the directory above it instead`;
    case "no-parent":
      return `${dirname(path)}, where the copy ${path} should be, is not there: make the directory, or correct copies`;
  }
}

/** Before anything touches the disk. @throws InstallError naming every path that is in the way */
export async function checkCopies(
  target: Target,
  contents: ReadonlyMap<FileName, Buffer>,
  options: { adopt: boolean },
): Promise<void> {
  const reports = await inspectCopies(target, contents);
  const problems = reports.map((report) => copyProblem(report, options)).filter((problem) => problem !== null);
  if (problems.length > 0) throw new InstallError(problems.join("\n"));
}

/** What differs between the copies and the files of `version`, one sentence each. Changes nothing. */
export async function faultsOfCopies(target: Target, version: string): Promise<readonly string[]> {
  const copies = Object.entries(target.copies ?? {});
  if (copies.length === 0) return [];
  const owner = await resolveOwner(target);
  const faults: string[] = [];
  for (const [path, file] of copies) {
    try {
      const info = await lstat(path);
      const isSame =
        info.isFile() && (await holds(path, await readInVersion(join(versionPath(target, version), file))));
      const hasAccess =
        (info.mode & 0o7777) === fileMode(target, file) && info.uid === owner.uid && info.gid === owner.gid;
      if (!isSame) faults.push(`the copy ${path} is not what ${file} is`);
      else if (!hasAccess) faults.push(`the copy ${path} has not the mode and owner of ${file}`);
    } catch (error) {
      const isGone = systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR";
      faults.push(isGone ? `the copy ${path} is missing` : `the copy ${path} cannot be read: ${String(error)}`);
    }
  }
  return faults;
}

/**
 * Writes all copies of `version` beside their paths, and that they are about to be put in place.
 * @throws InstallError; then every path is as it was
 */
export async function prepareCopies(target: Target, version: string, options: CopyOptions): Promise<PreparedCopies> {
  const copies = Object.entries(target.copies ?? {}).toSorted(([, a], [, b]) => rankOf(a) - rankOf(b));
  if (copies.length === 0) return { adopted: [], commit: () => Promise.resolve() };
  const contents = await readContents(target, version, new Set(copies.map(([, file]) => file)));
  await checkCopies(target, contents, options);
  const owner = await resolveOwner(target);

  // 1. Whatever fails for want of space or rights fails here.
  const written: string[] = [];
  try {
    for (const [path, file] of copies) {
      const data = contents.get(file) ?? Buffer.alloc(0);
      const facts = { mode: fileMode(target, file), ...ownership(owner) };
      await explained(`writing the copy ${path}`, () => writeBeside(path, data, facts));
      written.push(path);
    }
  } catch (error) {
    for (const path of written) await unlink(temporaryOf(path)).catch(() => undefined);
    throw error;
  }
  // 2. Somebody else's files get their second name.
  const adopted: { path: string; movedTo: string }[] = [];
  for (const { path, state } of await inspectCopies(target, contents)) {
    if (state !== "file" && state !== "link") continue;
    adopted.push({ path, movedTo: await explained(`moving ${path} aside`, () => keepAside(path)) });
  }
  // 3. From here on a start finishes it.
  const before = await readJournal(target);
  const paths = [...new Set([...(before?.paths ?? []), ...copies.map(([path]) => path)])];
  await writeJournal(target, { format: 1, version, done: false, paths });
  options.checkpoint?.("copies-prepared");

  const commit = async (): Promise<void> => {
    await putInPlace(copies, options, owner);
    await writeJournal(target, { format: 1, version, done: true, paths });
  };
  return { adopted, commit };
}

/**
 * Ends what a crash cut short: when copies were begun and are not known to be those of `current`, they are made those; a `current`
 * that broke the server is on its way out, and then they stay on the way to what they were begun for. True when there was something
 * to do. May be repeated.
 * @throws InstallError
 */
export async function finishCopies(target: Target): Promise<boolean> {
  if (Object.keys(target.copies ?? {}).length === 0) return false;
  const journal = await readJournal(target);
  const current = await linkedVersion(currentLink(target));
  if (journal === null || current === null) return false;
  const isBad = (version: string): Promise<boolean> => hasMarker(target, version, quarantineMarker);
  const version = (await isBad(current)) && !(await isBad(journal.version)) ? journal.version : current;
  if (journal.done && journal.version === version) return false;
  if ((await faultsOf(target, version, Object.values(target.copies ?? {}))).length > 0) return false;
  const prepared = await prepareCopies(target, version, { adopt: false });
  await prepared.commit();
  return true;
}

/** What proves others comes before what is proved: a program that reads in between trusts both old and new. */
function rankOf(file: FileName): number {
  if (file === "ca.pem" || file === "ca.crt" || file === "truststore.p12") return 0;
  if (file === "crl.pem") return 1;
  if (file === "chain.pem") return 2;
  if (file === "key.pem" || file === "tls.key") return 3;
  const isCertificate = file === "cert.pem" || file === "fullchain.pem" || file === "tls.crt";
  // Between them: files that are whole by themselves.
  return isCertificate ? 5 : 4;
}

async function readContents(
  target: Target,
  version: string,
  files: ReadonlySet<FileName>,
): Promise<ReadonlyMap<FileName, Buffer>> {
  const contents = new Map<FileName, Buffer>();
  for (const file of files) {
    const path = join(versionPath(target, version), file);
    contents.set(file, await explained(`reading ${path}`, () => readInVersion(path)));
  }
  return contents;
}

/** In the same directory, so that the rename stays within one file system and the name gets a new inode and a new time. */
async function writeBeside(
  path: string,
  data: Buffer,
  facts: Parameters<typeof createFileExclusively>[2],
): Promise<void> {
  await inDirectoryOf(path, async (within) => {
    const temporary = temporaryOf(within);
    // What a crash left behind.
    await unlink(temporary).catch((error: unknown) => {
      if (systemCode(error) !== "ENOENT") throw error;
    });
    await createFileExclusively(temporary, data, facts);
  });
}

async function putInPlace(
  copies: readonly (readonly [string, FileName])[],
  options: CopyOptions,
  owner: Owner,
): Promise<void> {
  const done: { path: string; before: Snapshot }[] = [];
  try {
    for (const [path] of copies) {
      const before = await explained(`replacing ${path}`, () =>
        inDirectoryOf(path, async (within) => {
          const found = await snapshot(within);
          await rename(temporaryOf(within), within);
          return found;
        }),
      );
      done.push({ path, before });
      options.checkpoint?.(`copied ${path}`);
    }
    for (const parent of new Set(copies.map(([path]) => dirname(path))))
      await explained(`syncing ${parent}`, () => syncDirectory(parent));
  } catch (error) {
    for (const { path, before } of done.toReversed())
      await inDirectoryOf(path, (within) => restore(within, before, owner)).catch(() => undefined);
    for (const [path] of copies) await unlink(temporaryOf(path)).catch(() => undefined);
    throw error;
  }
}

type Snapshot =
  | { readonly kind: "absent" }
  | { readonly kind: "link"; readonly to: string }
  | { readonly kind: "file"; readonly data: Buffer; readonly mode: number; readonly owner: Owner };

/** Content, mode and owner of one open file: who owns the directory may put another one in its place at any moment. */
async function snapshot(path: string): Promise<Snapshot> {
  try {
    if ((await lstat(path)).isSymbolicLink()) return { kind: "link", to: await readlink(path) };
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { mode, uid, gid } = await file.stat();
      return { kind: "file", data: await readWhole(file, path, maxKept), mode: mode & 0o777, owner: { uid, gid } };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (systemCode(error) === "ENOENT") return { kind: "absent" };
    throw error;
  }
}

async function restore(path: string, before: Snapshot, owner: Owner): Promise<void> {
  if (before.kind === "absent") return unlink(path);
  if (before.kind === "link") return replaceSymlink(before.to, path);
  const isOwn = before.owner.uid === owner.uid && before.owner.gid === owner.gid;
  const facts = { mode: before.mode, ...(isOwn ? ownership(owner) : before.owner) };
  await writeFileDurably(path, before.data, facts);
}

/** Whether the regular file at `path` has this content; what is larger is not read. */
async function holds(path: string, wanted: Buffer): Promise<boolean> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const info = await file.stat();
    return info.isFile() && info.size === wanted.length && (await readWhole(file, path, wanted.length)).equals(wanted);
  } finally {
    await file.close();
  }
}

interface Look {
  readonly isKnown: boolean;
  readonly mounts: ReadonlySet<string>;
  readonly wanted: Buffer | undefined;
}

async function inspect(target: Target, path: string, { isKnown, mounts, wanted }: Look): Promise<CopyState> {
  if (!isAbsolute(path)) throw new InstallError(`the copy "${path}" is not an absolute path: write it from / on`);
  let parent: string;
  try {
    parent = await realpath(dirname(path));
  } catch (error) {
    if (systemCode(error) === "ENOENT") return "no-parent";
    throw error;
  }
  if (mounts.has(join(parent, basename(path)))) return "mount-point";
  try {
    const info = await lstat(path);
    if (info.isSymbolicLink()) {
      const to = resolve(dirname(path), await readlink(path));
      return to.startsWith(`${target.directory}/`) ? "ours" : "link";
    }
    if (!info.isFile()) return "directory";
    return isKnown || (wanted !== undefined && (await holds(path, wanted))) ? "ours" : "file";
  } catch (error) {
    if (systemCode(error) === "ENOENT") return "absent";
    throw error;
  }
}

/** Paths on which something is mounted; none where the system does not say. */
async function mountPoints(): Promise<ReadonlySet<string>> {
  const text = await readFile("/proc/self/mountinfo", "utf8").catch(() => "");
  const points = text.split("\n").map((line) => line.split(" ")[4] ?? "");
  // proc(5): space, tab, newline and backslash are octal.
  return new Set(points.map((point) => point.replaceAll(/\\([0-7]{3})/g, (_, code: string) => octal(code))));
}

function octal(code: string): string {
  return String.fromCharCode(Number.parseInt(code, 8));
}

async function readJournal(target: Target): Promise<Journal | null> {
  const path = join(target.directory, journalFile);
  return explained(`reading ${path}`, async () => {
    try {
      const value = JSON.parse(await readFile(path, "utf8")) as Partial<Journal> | null;
      const isOurs = value?.format === 1 && typeof value.version === "string" && Array.isArray(value.paths);
      return isOurs
        ? { format: 1, version: value.version ?? "", done: value.done === true, paths: value.paths ?? [] }
        : null;
    } catch (error) {
      // Damaged is like never written: then nothing is ours, and nothing of others is overwritten.
      if (error instanceof SyntaxError || systemCode(error) === "ENOENT") return null;
      throw error;
    }
  });
}

async function writeJournal(target: Target, journal: Journal): Promise<void> {
  const path = join(target.directory, journalFile);
  await explained(`writing ${path}`, () => writeFileDurably(path, `${JSON.stringify(journal)}\n`, { mode: 0o600 }));
}
