import { constants, open, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import { writeFileDurably } from "@newleaf/shared/durable-file";
import { LedAstrayError, openGuarded, readWhole } from "../guarded-open.ts";
import type { ReloadResult, TouchStrategy } from "./strategy.ts";

/** Configuration files are small; anything larger is a mistake in the path. */
const maxSize = 8 * 1024 * 1024;

/**
 * Replaces the file by a copy of itself: new inode, new time, same content, mode and owner, in one rename (Traefik looks at its
 * dynamic file only, never at certificate files). A link is followed, and stays.
 *
 * The directory may belong to the server's own user, who may put links in the agent's way: so it is opened once and all is done
 * in it, and content, mode and owner are those of one open file. What the user cannot read does not become his.
 */
export async function reloadByTouch(strategy: TouchStrategy): Promise<ReloadResult> {
  try {
    const meant = await identityOf(strategy.file);
    const path = await realpath(strategy.file);
    const directory = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      const within = process.platform === "linux" ? `/proc/self/fd/${directory.fd}` : dirname(path);
      const wrong = await rewrite(strategy.file, join(within, basename(path)), meant);
      return wrong === null ? { ok: true, detail: `rewrote ${path}` } : { ok: false, detail: wrong };
    } finally {
      await directory.close();
    }
  } catch (error) {
    return { ok: false, detail: explain(strategy.file, error) };
  }
}

/** Says which file it is: nobody can give another file the same. @throws LedAstrayError, the system error */
async function identityOf(path: string): Promise<string> {
  const file = await openGuarded(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { dev, ino } = await file.stat();
    return `${dev} ${ino}`;
  } finally {
    await file.close();
  }
}

/** What is wrong with the file, or null when it was replaced by its copy. */
async function rewrite(named: string, path: string, meant: string): Promise<string | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const info = await file.stat();
    const wrong = fileProblem(named, info);
    if (wrong !== null) return wrong;
    if (`${info.dev} ${info.ino}` !== meant) return `${named} changed while it was looked at: it is tried again`;
    await writeFileDurably(path, await readWhole(file, named, maxSize), {
      mode: info.mode & 0o7777,
      uid: info.uid,
      gid: info.gid,
    });
    return null;
  } finally {
    await file.close();
  }
}

export function describeTouch(strategy: TouchStrategy): string {
  return `rewrite ${strategy.file}`;
}

export async function validateTouch(strategy: TouchStrategy): Promise<readonly string[]> {
  if (!isAbsolute(strategy.file)) return [`${strategy.file} is a relative path: write it from / on`];
  try {
    const wrong = fileProblem(strategy.file, await stat(strategy.file));
    return wrong === null ? [] : [wrong];
  } catch (error) {
    return [explain(strategy.file, error)];
  }
}

function fileProblem(path: string, info: { isFile(): boolean; size: number }): string | null {
  if (!info.isFile()) return `${path} is not a regular file: name the file that the server watches`;
  if (info.size > maxSize) return `${path} is larger than 8 MiB: name the configuration file that the server watches`;
  return null;
}

function explain(path: string, error: unknown): string {
  if (error instanceof LedAstrayError) return error.message;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return `${path} is not there: name the file that the server watches`;
  if (code === "EBUSY")
    return `${path} is a mount point of its own and cannot be replaced: mount its directory instead`;
  return `${path} cannot be rewritten: ${String(error)}`;
}
