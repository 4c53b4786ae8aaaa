import { readFile, realpath, stat } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { writeFileDurably } from "@newleaf/shared/durable-file";
import type { ReloadResult, TouchStrategy } from "./strategy.ts";

/** Configuration files are small; anything larger is a mistake in the path. */
const maxSize = 8 * 1024 * 1024;

/**
 * Replaces the file by a copy of itself: new inode, new time, same content, mode and owner, in one rename (Traefik looks at its
 * dynamic file only, never at certificate files). A link is followed, and stays.
 */
export async function reloadByTouch(strategy: TouchStrategy): Promise<ReloadResult> {
  try {
    const path = await realpath(strategy.file);
    const info = await stat(path);
    const wrong = fileProblem(strategy.file, info);
    if (wrong !== null) return { ok: false, detail: wrong };
    const options = { mode: info.mode & 0o7777, uid: info.uid, gid: info.gid };
    await writeFileDurably(path, await readFile(path), options);
    return { ok: true, detail: `rewrote ${path}` };
  } catch (error) {
    return { ok: false, detail: explain(strategy.file, error) };
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
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return `${path} is not there: name the file that the server watches`;
  if (code === "EBUSY")
    return `${path} is a mount point of its own and cannot be replaced: mount its directory instead`;
  return `${path} cannot be rewritten: ${String(error)}`;
}
