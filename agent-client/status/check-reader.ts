/** `check` of who reads: a server that dropped root and may not open its files starts well, and never takes a renewal. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileMode } from "../install/access.ts";
import type { Owner } from "../install/owner.ts";
import type { Target } from "../install/target.ts";
import { signalledProcess } from "../reload/signal.ts";
import type { ReloadStrategy } from "../reload/strategy.ts";

/**
 * Why the process that is signalled could not open the files that the agent would write; null when it could, or when nobody
 * knows which process that is. It may have a parent or a helper that reads for it, so this is no more than a warning.
 */
export async function readerProblem(reload: ReloadStrategy, target: Target, owner: Owner): Promise<string | null> {
  if (reload.kind !== "signal") return null;
  const found = await signalledProcess(reload);
  const reader = found === null ? null : await credentialsOf(found.pid);
  if (found === null || reader === null || reader.uid === 0 || reader.uid === owner.uid) return null;
  const shut = target.files.find((name) => {
    const mode = fileMode(target, name);
    return (mode & (reader.groups.has(owner.gid) ? 0o044 : 0o004)) === 0;
  });
  if (shut === undefined) return null;
  const mode = fileMode(target, shut).toString(8).padStart(4, "0");
  return `${found.name} (pid ${found.pid}) runs as uid ${reader.uid}, and ${shut} will belong to ${owner.uid}:${owner.gid} with mode ${mode}: if it opens its files as that user it cannot read them; set owner, or group and mode`;
}

/** Null when the process has ended, or there is no /proc. The uid and gid are those that files are opened with (proc(5)). */
async function credentialsOf(
  pid: number,
): Promise<{ readonly uid: number; readonly groups: ReadonlySet<number> } | null> {
  try {
    const text = await readFile(join("/proc", String(pid), "status"), "utf8");
    const numbers = (name: string): number[] =>
      (new RegExp(`^${name}:(.*)$`, "m").exec(text)?.[1] ?? "").trim().split(/\s+/).filter(Boolean).map(Number);
    const [uid, gid] = [numbers("Uid")[3], numbers("Gid")[3]];
    return uid === undefined || gid === undefined ? null : { uid, groups: new Set([gid, ...numbers("Groups")]) };
  } catch {
    return null;
  }
}
