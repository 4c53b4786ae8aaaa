/**
 * Files that are whole after a power cut. Each function returns only once its change would survive one.
 *
 * The sequence is the one of `rename(2)` and `fsync(2)`: data to a temporary file in the same directory (rename is atomic only
 * within one file system), fsync of the file, rename, fsync of the directory (the new name lives there). An fsync error is
 * thrown, never retried: after a failed fsync the kernel may have dropped the dirty pages and a second call would lie.
 *
 * Limits: a crash may leave a temporary file behind (`.NAME.newleaf-XXXXXXXX`, safe to delete); directories that are not on a
 * POSIX file system, or that refuse fsync (EINVAL on some network file systems), are not supported. `fdatasync` is not used: a
 * file's mode and owner are part of what must survive.
 */
import { randomBytes } from "node:crypto";
import { constants, type FileHandle, mkdir, open, rename, symlink, unlink } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

export interface FileOptions {
  /** Permission bits, for example 0o600: set at open, then again against the umask. */
  readonly mode: number;
  /** Owner; needs CAP_CHOWN when it is not the process's own. Left alone when absent. */
  readonly uid?: number;
  /** Group; the process must be in it or hold CAP_CHOWN. Left alone when absent. */
  readonly gid?: number;
}

/**
 * Replaces `path`, or makes it: readers see the old content or the new one, complete, never anything between.
 * A symbolic link at `path` is itself replaced, not followed.
 *
 * System calls: openat(O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, mode), fchmod, fchown, write, fsync, close, rename, then open and fsync
 * of the directory. When one fails the temporary file is removed and `path` is as it was, except for a failing fsync of the
 * directory: then `path` is the new content, but it may not survive a power cut.
 *
 * @throws the system error (`code` ENOSPC, EACCES, EPERM …)
 */
export async function writeFileDurably(path: string, data: Uint8Array | string, options: FileOptions): Promise<void> {
  const temporary = temporaryName(path);
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, options.mode);
  try {
    await fillAndClose(file, data, options);
    await rename(temporary, path);
  } catch (error) {
    await removeQuietly(temporary);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * Makes a file that was not there. Unlike `writeFileDurably` a reader may see it while it is being written; a crash may leave
 * it incomplete.
 *
 * System calls: openat(O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, mode), fchmod, fchown, write, fsync, close, fsync of the directory.
 *
 * @throws the system error; `code` EEXIST when there is something at `path`, a dangling symbolic link included
 */
export async function createFileExclusively(
  path: string,
  data: Uint8Array | string,
  options: FileOptions,
): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, options.mode);
  try {
    await fillAndClose(file, data, options);
  } catch (error) {
    await removeQuietly(path);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * `mkdir -p`: every directory that this call makes has exactly `mode` whatever the umask, and its parent is fsynced.
 * Directories that were there keep the mode they have. Resolves to the ones made, outermost first.
 *
 * @throws the system error; `code` EEXIST or ENOTDIR when something on the way is not a directory
 */
export async function makeDirectory(path: string, mode: number): Promise<readonly string[]> {
  const absolute = resolve(path);
  try {
    return await makeOne(absolute, mode);
  } catch (error) {
    if (!isSystemError(error, "ENOENT") || absolute === dirname(absolute)) throw error;
  }
  const outer = await makeDirectory(dirname(absolute), mode);
  return [...outer, ...(await makeOne(absolute, mode))];
}

/**
 * Makes names added to or removed from a directory durable: open(O_RDONLY|O_DIRECTORY), fsync, close.
 *
 * @throws the system error
 */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Points the symbolic link `path` at `target` in one step: readers follow the old target or the new one. `target` is stored as
 * given, so a relative one is relative to the link's directory. Whatever file or link is at `path` is replaced.
 *
 * System calls: symlink to a temporary name beside it, rename, fsync of the directory.
 *
 * @throws the system error; `code` EISDIR when `path` is a directory
 */
export async function replaceSymlink(target: string, path: string): Promise<void> {
  const temporary = temporaryName(path);
  await symlink(target, temporary);
  try {
    await rename(temporary, path);
  } catch (error) {
    await removeQuietly(temporary);
    throw error;
  }
  await syncDirectory(dirname(path));
}

async function fillAndClose(file: FileHandle, data: Uint8Array | string, options: FileOptions): Promise<void> {
  try {
    // fchown clears set-id bits and the umask has cut `mode`: owner first, then mode, both before there is anything to read.
    if (options.uid !== undefined || options.gid !== undefined) await file.chown(options.uid ?? -1, options.gid ?? -1);
    await file.chmod(options.mode);
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function makeOne(path: string, mode: number): Promise<readonly string[]> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (!isSystemError(error, "EEXIST")) throw error;
    // Somebody else's, or there before. open() with O_DIRECTORY fails when it is no directory.
    await (await open(path, constants.O_RDONLY | constants.O_DIRECTORY)).close();
    return [];
  }
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.chmod(mode);
    await directory.sync();
  } finally {
    await directory.close();
  }
  await syncDirectory(dirname(path));
  return [path];
}

function temporaryName(path: string): string {
  // Short enough for NAME_MAX (255) with any name of up to 230 bytes.
  return join(dirname(path), `.${basename(path)}.newleaf-${randomBytes(4).toString("hex")}`);
}

async function removeQuietly(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch {
    // The first error is the one that says what went wrong.
  }
}

function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
