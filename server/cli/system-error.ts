/** What the operating system refused, in words: nobody has to know what ENOENT is. */

const causes: Readonly<Record<string, string>> = {
  EACCES: "this user may not",
  EPERM: "this user may not",
  EEXIST: "it is there already; nothing is written over",
  EISDIR: "it is a directory",
  ENOENT: "there is no such file or directory",
  ENOSPC: "the disk is full",
  ENOTDIR: "a part of the path is no directory",
  EROFS: "the file system is read-only",
};

/** Why, with the system's own word: `there is no such file or directory, ENOENT`. */
export function systemCause(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) return "error";
  const cause = causes[code];
  return cause === undefined ? code : `${cause}, ${code}`;
}

/** One line for a system error that nobody caught: the path, then why. */
export function describeSystemError(error: NodeJS.ErrnoException): string {
  const { code, path, syscall } = error;
  if (path === undefined || causes[code ?? ""] === undefined) return error.message;
  return `${path}: ${systemCause(error)}${syscall === undefined ? "" : ` (${syscall})`}`;
}
