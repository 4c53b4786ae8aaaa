import { join } from "node:path";
import type { FileName, OutputName } from "./material.ts";

/** Where one certificate is installed, and how. Paths are absolute. */
export interface Target {
  /** Holds `versions/…`, the link `current` and the link `previous`. */
  readonly directory: string;
  /** What each version holds. */
  readonly files: readonly FileName[];
  /** Name or number of the uid that opens the files; null: the agent's own. */
  readonly owner: string | number | null;
  /** Name or number; null: the owner's primary group, or the agent's own. */
  readonly group: string | number | null;
  /** Permission bits of the files; those that hold the key are capped at 0640. */
  readonly mode: number;
  /** Fixed path → the file of `current` it is a link to. */
  readonly links: Readonly<Record<string, FileName>>;
  /** Fixed path → the file it is a copy of, for programs that cannot follow links. */
  readonly copies?: Readonly<Record<string, FileName>>;
  /** Each is rendered to the file `name`, which is among `files`. */
  readonly templates?: readonly { readonly from: string; readonly name: OutputName }[];
  /** For the `.p12` files. */
  readonly stores?: StoreSettings;
  /** No file may be larger: what the server can take. */
  readonly maxFileBytes?: number;
}

export interface StoreSettings {
  /** Its first line is the passphrase. */
  readonly passphraseFile: string;
  /** friendlyName of the key's entry. */
  readonly alias: string;
}

/** Something about files on this host went wrong. `message` says what, why and what to do; it never contains a secret. */
export class InstallError extends Error {
  override readonly name = "InstallError";
  /** The system's error code (ENOSPC, EACCES …) when the system said no. */
  readonly code: string | undefined;

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = systemCode(cause);
  }
}

export const versionsOf = (target: Target): string => join(target.directory, "versions");
export const versionPath = (target: Target, version: string): string => join(target.directory, "versions", version);
export const currentLink = (target: Target): string => join(target.directory, "current");
export const previousLink = (target: Target): string => join(target.directory, "previous");

/** The system's code of an error (ENOENT …), if it is one of the system's. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Runs `act`; a system error becomes an InstallError that says what was being done and what usually helps. */
export async function explained<T>(doing: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof InstallError) throw error;
    const code = systemCode(error);
    const advice = code === undefined ? undefined : remedies[code];
    throw new InstallError(
      `${doing}: ${error instanceof Error ? error.message : String(error)}${advice === undefined ? "" : `; ${advice}`}`,
      error,
    );
  }
}

const remedies: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full: free some space; nothing in force was touched, and the agent tries again",
  EDQUOT: "the disk quota is used up: free some space; nothing in force was touched, and the agent tries again",
  EROFS:
    "the file system is read-only: with systemd add the directory to ReadWritePaths=, in a container mount it read-write",
  EACCES: "the agent may not: run it as root, or give its user this directory",
  EPERM: "the agent may not: to give files to another owner it needs root or CAP_CHOWN",
  EBUSY: "it is a mount point of its own: mount the directory above it instead, single files cannot be replaced",
  ENOTDIR: "something on the way is not a directory: move it away",
  ELOOP: "symbolic links lead in a circle: repair them",
};
