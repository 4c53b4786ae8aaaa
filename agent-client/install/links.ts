import { link, lstat, readlink, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { replaceSymlink, syncDirectory } from "@newleaf/shared/durable-file";
import { inDirectoryOf } from "../guarded-open.ts";
import type { FileName } from "./material.ts";
import { explained, InstallError, systemCode, type Target } from "./target.ts";

/**
 * `right`: already our link. `ours-elsewhere`: a link into the target's directory, to another file. `file`, `foreign-link`,
 * `directory`: somebody else's. `no-parent`: the directory that should hold it is not there.
 */
export type LinkState = "right" | "absent" | "ours-elsewhere" | "file" | "foreign-link" | "directory" | "no-parent";

export interface LinkReport {
  readonly path: string;
  readonly file: FileName;
  readonly state: LinkState;
}

export const setAside = ".before-newleaf";

/** What is at each configured path now. Changes nothing. @throws InstallError when a path cannot be looked at */
export async function inspectLinks(target: Target): Promise<readonly LinkReport[]> {
  const reports: LinkReport[] = [];
  for (const [path, file] of Object.entries(target.links)) {
    const state = await explained(`looking at the link ${path}`, () => inspect(target, path, file));
    reports.push({ path, file, state });
  }
  return reports;
}

/** Says why `ensureLinks` would refuse, or null when it would not. */
export function linkProblem(report: LinkReport, options: { adopt: boolean }): string | null {
  const { path, state } = report;
  const adoptable = `run once with --adopt to have it moved aside to ${path}${setAside}, or remove it, or take the path out of links`;
  switch (state) {
    case "right":
    case "absent":
    case "ours-elsewhere":
      return null;
    case "file":
      return options.adopt ? null : `${path} is a file that the agent did not make: ${adoptable}`;
    case "foreign-link":
      return options.adopt ? null : `${path} is a link to somewhere else, not made by the agent: ${adoptable}`;
    case "directory":
      return `${path} is a directory, or something else that is neither a file nor a link: move it away, or name a path inside it in links`;
    case "no-parent":
      return `${dirname(path)}, where the link ${path} should be, is not there: make the directory, or correct links`;
  }
}

/**
 * Makes each configured path a link to `<directory>/current/<file>`, so that programs with fixed paths follow every switch.
 * A file in the way is refused, or with `adopt` kept as `….before-newleaf`; at no moment is the path without a file. All or
 * nothing is judged before anything is changed. May be repeated.
 * @throws InstallError
 */
export async function ensureLinks(
  target: Target,
  options: { adopt: boolean },
): Promise<{ made: readonly string[]; adopted: readonly { path: string; movedTo: string }[] }> {
  const stray = Object.entries(target.links).find(([, file]) => !target.files.includes(file));
  if (stray !== undefined) {
    throw new InstallError(`the link ${stray[0]} wants ${stray[1]}, which is not among files: add it there`);
  }
  const reports = await inspectLinks(target);
  const problems = reports.map((report) => linkProblem(report, options)).filter((problem) => problem !== null);
  if (problems.length > 0) throw new InstallError(problems.join("\n"));

  const made: string[] = [];
  const adopted: { path: string; movedTo: string }[] = [];
  for (const { path, file, state } of reports) {
    if (state === "right") continue;
    if (state === "file" || state === "foreign-link") {
      adopted.push({ path, movedTo: await explained(`moving ${path} aside`, () => keepAside(path)) });
    }
    const to = join(target.directory, "current", file);
    await explained(`making the link ${path}`, () => inDirectoryOf(path, (within) => replaceSymlink(to, within)));
    made.push(path);
  }
  return { made, adopted };
}

async function inspect(target: Target, path: string, file: FileName): Promise<LinkState> {
  if (!isAbsolute(path)) throw new InstallError(`the link "${path}" is not an absolute path: write it from / on`);
  try {
    const info = await lstat(path);
    if (info.isSymbolicLink()) return judgeLink(target, path, file, await readlink(path));
    return info.isFile() ? "file" : "directory";
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    return (await isDirectory(dirname(path))) ? "absent" : "no-parent";
  }
}

function judgeLink(target: Target, path: string, file: FileName, to: string): LinkState {
  const absolute = resolve(dirname(path), to);
  if (absolute === join(target.directory, "current", file)) return "right";
  return absolute.startsWith(`${target.directory}/`) ? "ours-elsewhere" : "foreign-link";
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (systemCode(error) === "ENOENT") return false;
    throw error;
  }
}

/**
 * A second name for whatever is at `path`, which the caller then replaces by rename: so the path always leads to something, and
 * a crash in between loses nothing. link(2) never overwrites, and does not follow a symbolic link.
 */
export async function keepAside(path: string): Promise<string> {
  const name = await inDirectoryOf(path, keepBeside);
  return join(dirname(path), basename(name));
}

async function keepBeside(path: string): Promise<string> {
  const original = await lstat(path);
  for (let attempt = 1; ; attempt += 1) {
    const name = `${path}${setAside}${attempt === 1 ? "" : `-${attempt}`}`;
    try {
      await link(path, name);
      await syncDirectory(dirname(path));
      return name;
    } catch (error) {
      if (systemCode(error) !== "EEXIST") throw error;
      // The name a crash left behind already leads to the same file.
      const there = await lstat(name);
      if (there.dev === original.dev && there.ino === original.ino) return name;
    }
  }
}
