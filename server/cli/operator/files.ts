/**
 * An operator's key and certificate on disk.
 *
 *   operators/ID/versions/SERIAL/{key.pem,chain.pem}   one pair, never changed once it is there
 *   operators/ID/current → versions/SERIAL             switched in one rename: key and chain never mismatch, whatever crashes
 *   operators/ID/{key.pem,chain.pem} → current/…       the fixed paths, for curl and other programs
 *   operators/ID/next/                                 a renewal that has begun; kept, so that asking again is the same request
 *
 * chain.pem is the leaf and its intermediates. A directory that holds just the two plain files is read as it is.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { lstat, readdir, readFile, readlink, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { createFileExclusively, makeDirectory, replaceSymlink, syncDirectory } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";

export interface OperatorFiles {
  readonly directory: string;
  /** PEM of leaf and intermediates. */
  readonly chain: string;
  /** PEM, as TLS wants it. */
  readonly key: string;
  readonly leaf: X509Certificate;
}

const files = ["key.pem", "chain.pem"] as const;

/**
 * Reads the pair in force.
 * @throws AppError not-found, conflict (the two do not belong together)
 */
export async function readOperatorFiles(directory: string): Promise<OperatorFiles> {
  // The link is resolved once: both files are then of the same version even if it is switched meanwhile.
  const version = existsSync(join(directory, "current"))
    ? join(directory, await readlink(join(directory, "current")))
    : directory;
  let key: string;
  let chain: string;
  try {
    key = await readFile(join(version, "key.pem"), "utf8");
    chain = await readFile(join(version, "chain.pem"), "utf8");
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code === "EACCES" ? "cannot be read by this user" : "is not there";
    throw new AppError(
      "not-found",
      `The operator's key.pem and chain.pem in ${directory}: one ${reason}. Say which operator with --as ID or --as DIRECTORY`,
      { cause: error },
    );
  }
  const leaf = new X509Certificate(chain);
  if (!leaf.checkPrivateKey(createPrivateKey(key))) {
    throw new AppError("conflict", `key.pem and chain.pem in ${version} do not belong together`);
  }
  return { directory, key, chain, leaf };
}

/** Installs the first pair of an operator. The directory must not be there. */
export async function createOperatorFiles(directory: string, pair: { key: KeyObject; chain: string }): Promise<void> {
  await makeDirectory(directory, 0o700);
  await writeNextKey(directory, pair.key);
  await switchToNext(directory, pair.chain);
}

/** The key of a renewal that was begun and not finished, else null. */
export async function readNextKey(directory: string): Promise<KeyObject | null> {
  try {
    return createPrivateKey(await readFile(join(directory, "next", "key.pem")));
  } catch {
    // Not there, or cut off by a crash before it was ever sent: either way it stands for nothing.
    await rm(join(directory, "next"), { recursive: true, force: true });
    return null;
  }
}

/** Begins a renewal: the new key is durable before it is sent anywhere. */
export async function writeNextKey(directory: string, key: KeyObject): Promise<void> {
  await makeDirectory(join(directory, "next"), 0o700);
  const pem = key.export({ type: "pkcs8", format: "pem" });
  await createFileExclusively(join(directory, "next", "key.pem"), pem, { mode: 0o600 });
}

/** Ends a renewal: the chain joins its key, the pair gets its place and becomes the one in force. */
export async function switchToNext(directory: string, chain: string): Promise<void> {
  await adoptPlainFiles(directory);
  const next = join(directory, "next");
  await rm(join(next, "chain.pem"), { force: true });
  await createFileExclusively(join(next, "chain.pem"), chain, { mode: 0o600 });
  await install(directory, next, chain);
}

async function install(directory: string, pair: string, chain: string): Promise<void> {
  const versions = join(directory, "versions");
  const name = new X509Certificate(chain).serialNumber.toLowerCase();
  const previous = existsSync(join(directory, "current")) ? basename(await readlink(join(directory, "current"))) : null;
  await makeDirectory(versions, 0o700);
  if (name === previous) {
    // It is in force already: the same leaf came back for the same key.
    await rm(pair, { recursive: true });
    return;
  }
  // Left by a crash before the switch: nothing ever pointed there.
  await rm(join(versions, name), { recursive: true, force: true });
  await rename(pair, join(versions, name));
  await syncDirectory(versions);
  await syncDirectory(directory);
  await replaceSymlink(join("versions", name), join(directory, "current"));
  for (const file of files) await linkOnce(join("current", file), join(directory, file));
  // A program that has just read the link may still open the previous pair.
  for (const version of await readdir(versions)) {
    if (version !== name && version !== previous) await rm(join(versions, version), { recursive: true, force: true });
  }
}

/** A directory of two plain files becomes one of versions: same content under the same paths at every step. */
async function adoptPlainFiles(directory: string): Promise<void> {
  if (existsSync(join(directory, "current")) || !existsSync(join(directory, "key.pem"))) return;
  const chain = await readFile(join(directory, "chain.pem"), "utf8");
  const pair = join(directory, "adopting");
  await rm(pair, { recursive: true, force: true });
  await makeDirectory(pair, 0o700);
  await createFileExclusively(join(pair, "key.pem"), await readFile(join(directory, "key.pem")), { mode: 0o600 });
  await createFileExclusively(join(pair, "chain.pem"), chain, { mode: 0o600 });
  await install(directory, pair, chain);
}

async function linkOnce(target: string, path: string): Promise<void> {
  const present = await lstat(path).catch(() => null);
  if (present?.isSymbolicLink() === true && (await readlink(path)) === target) return;
  await replaceSymlink(target, path);
}
