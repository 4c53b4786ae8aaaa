import type { FileName } from "./material.ts";

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
}

/** Something about files on this host went wrong. `message` says what, why and what to do; it never contains a secret. */
export class InstallError extends Error {
  override readonly name = "InstallError";
  /** The system's error code (ENOSPC, EACCES …) when the system said no. */
  readonly code: string | undefined;

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
  }
}
