/**
 * Opens what agent.yml names without being led elsewhere. An agent that is root reads and writes in places of less privileged users,
 * who may put a link to somebody else's file or directory there at any moment: a template that is a link to /etc/shadow would be
 * rendered into a file of theirs. So it matters who decides where a path leads. From the first directory or link on that is not
 * root's, what is opened has to belong to the same user, or to lie in that directory itself and have no other name.
 *
 * An agent that is not root can be led to nothing that its user may not have anyway: there nothing is asked.
 */
import { constants, type FileHandle, lstat, open, readlink } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";

/** Whoever decides where a path leads has led it to something that is not theirs. */
export class LedAstrayError extends Error {
  override readonly name = "LedAstrayError";
}

/** What is there is no regular file, or larger than anything that should be there. */
export class UnfitFileError extends Error {
  override readonly name = "UnfitFileError";
}

/** Who may change where a path leads. */
interface Steward {
  /** Null: several, or nobody that could be told. */
  readonly uid: number | null;
  /** The directory, without links on the way, below which all is theirs; null when only a file or a link is. */
  readonly place: string | null;
}

const maxLinks = 40;

/** Like `open`, for reading. @throws LedAstrayError, the system error */
export async function openGuarded(path: string, flags: number): Promise<FileHandle> {
  const steward = await stewardOf(path);
  const handle = await open(path, flags);
  try {
    if (steward !== null && !(await isTheirs(handle, steward))) {
      const who = steward.uid === null ? "others" : `uid ${steward.uid}`;
      throw new LedAstrayError(
        `${path} can be led anywhere by ${who} and leads to what is not theirs: it is not touched; keep it in a directory of root's, such as /etc/newleaf`,
      );
    }
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * The first line of a file that holds a secret.
 * @param what it is called in messages, which never show what is in it
 * @throws as `readGuarded`; UnfitFileError also when others can read it
 */
export async function readSecretLine(path: string, what: string, maxBytes: number): Promise<string> {
  const { data, mode } = await readGuarded(path, maxBytes);
  if ((mode & 0o007) !== 0)
    throw new UnfitFileError(
      `others can read ${what} ${path}; run: chmod o= ${path} (in Kubernetes: defaultMode: 0400)`,
    );
  return data.toString("utf8").split(/\r?\n/, 1)[0] ?? "";
}

/**
 * The content of a small regular file, never waiting for the other end of a pipe.
 * @throws LedAstrayError, the system error; UnfitFileError when it is no regular file, or larger than `maxBytes`
 */
export async function readGuarded(path: string, maxBytes: number): Promise<{ data: Buffer; mode: number }> {
  const file = await openGuarded(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { data: await readWhole(file, path, maxBytes), mode: (await file.stat()).mode };
  } finally {
    await file.close();
  }
}

/** Everything in an open file. @param path names it in messages @throws UnfitFileError when it is no regular file, or larger than `maxBytes` */
export async function readWhole(file: FileHandle, path: string, maxBytes: number): Promise<Buffer> {
  const info = await file.stat();
  if (!info.isFile()) throw new UnfitFileError(`${path} is not a regular file`);
  const tooLarge = `${path} is larger than ${maxBytes} bytes`;
  if (info.size > maxBytes) throw new UnfitFileError(tooLarge);
  // It may grow while it is read.
  const data = Buffer.alloc(Math.min(maxBytes, Math.max(info.size, 4096)) + 1);
  let length = 0;
  for (let read = -1; read !== 0 && length < data.length; length += read) {
    ({ bytesRead: read } = await file.read(data, length, data.length - length, null));
  }
  if (length === data.length) throw new UnfitFileError(tooLarge);
  return data.subarray(0, length);
}

/**
 * Does something to `path` by way of its opened directory, so that the directory stays the same one until it is done.
 * @param act gets another name of `path`
 * @throws LedAstrayError, what `act` throws
 */
export async function inDirectoryOf<T>(path: string, act: (within: string) => Promise<T>): Promise<T> {
  if (process.platform !== "linux") return act(path);
  const directory = await openGuarded(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  const name = `/proc/self/fd/${directory.fd}`;
  try {
    return await act(join(name, basename(path)));
  } catch (error) {
    if (error instanceof Error) error.message = error.message.replaceAll(`${name}/`, join(dirname(path), "/"));
    throw error;
  } finally {
    await directory.close();
  }
}

/** Who besides root may change where a path leads. Null: nobody, or it does not matter because the agent is not root. */
export async function stewardOf(path: string): Promise<Steward | null> {
  if (process.geteuid?.() !== 0 || process.platform !== "linux") return null;
  const parts = resolve(path).split("/");
  let at = "/";
  for (let links = 0; parts.length > 0;) {
    const next = join(at, parts.shift() ?? "");
    // What is not there yet may be anybody's by the time that it is opened.
    const info = await lstat(next).catch(() => null);
    if (info === null) return { uid: null, place: null };
    const place = info.isDirectory() ? next : null;
    if (info.uid !== 0) return { uid: info.uid, place };
    // Only in a sticky directory a user's own entries are safe from the others who may write there.
    if (place !== null && (info.mode & 0o022) !== 0 && (info.mode & 0o1000) === 0) return { uid: null, place };
    if (!info.isSymbolicLink()) {
      at = next;
      continue;
    }
    if ((links += 1) > maxLinks) return { uid: null, place: null };
    const to = await readlink(next);
    if (isAbsolute(to)) at = "/";
    parts.unshift(...to.split("/"));
  }
  return null;
}

async function isTheirs(handle: FileHandle, { uid, place }: Steward): Promise<boolean> {
  const info = await handle.stat();
  if (uid !== null && info.uid === uid) return true;
  // Another's file cannot be moved in there, but a second name may have been made for it.
  if (place === null || !(info.isDirectory() || info.nlink === 1)) return false;
  const real = await readlink(`/proc/self/fd/${handle.fd}`);
  return real === place || real.startsWith(`${place}/`);
}
