/**
 * Files into a backup and out of it, plain or encrypted in the age format (age-encryption.org/v1), which the `age` program opens too.
 * Everything is a stream: a database of many gigabytes never lies in memory.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { AppError } from "@newleaf/shared/problems";
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import type { StoredFile } from "./manifest.ts";

export const sealedSuffix = ".age";

/** Opens what was encrypted to one of its recipients. */
export type Opener = Decrypter;

/**
 * Copies a file, encrypted if there are recipients, 0600 and on disk when this resolves.
 * @param target must not be there
 * @throws the system error, Error when a recipient is none
 */
export async function sealFile(
  source: string,
  target: string,
  recipients: readonly string[],
): Promise<Omit<StoredFile, "name">> {
  const plain = createReadStream(source, { highWaterMark: 1 << 18 });
  if (recipients.length === 0) return write(plain, target);
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  // Node's own type of a web stream and the library's differ in name only.
  const stream = await encrypter.encrypt(Readable.toWeb(plain) as unknown as ReadableStream<Uint8Array>);
  return write(Readable.fromWeb(stream), target);
}

/**
 * Copies a file of a backup out of it, opened if `opener` is given.
 * @param target must not be there; 0600, on disk when this resolves
 * @throws AppError conflict when it cannot be decrypted
 */
export async function unsealFile(source: string, target: string, opener: Opener | null): Promise<void> {
  await write(await openStream(source, opener), target);
}

/** A small file's content. @throws AppError conflict when it cannot be decrypted */
export async function unsealText(source: string, opener: Opener | null): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of await openStream(source, opener)) chunks.push(chunk as Buffer);
  } catch (cause) {
    throw unreadable(source, cause);
  }
  return Buffer.concat(chunks);
}

/** Size and SHA-256 (hex) of a file. */
export async function digestFile(path: string): Promise<Omit<StoredFile, "name">> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 18 })) hash.update(chunk as Buffer);
  return { size: (await stat(path)).size, sha256: hash.digest("hex") };
}

/**
 * The identities of a file as `age-keygen` or `newleaf backup key` writes it.
 * @throws AppError not-found, conflict (others can read it, or there is none in it)
 */
export async function readIdentityFile(file: string): Promise<Opener> {
  let text: string;
  try {
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0)
      throw new AppError(
        "conflict",
        `Others can read the identity file ${file}; allow only its owner: chmod 600 ${file}`,
      );
    text = await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("not-found", `The identity file ${file} cannot be read (${codeOf(error)})`, { cause: error });
  }
  const identities = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const opener = new Decrypter();
  try {
    for (const identity of identities) opener.addIdentity(identity);
  } catch {
    // Without the library's error, which could quote the secret.
    throw new AppError("conflict", `${file} holds a line that is no age identity (AGE-SECRET-KEY-1…)`);
  }
  if (identities.length === 0) throw new AppError("conflict", `${file} holds no age identity (AGE-SECRET-KEY-1…)`);
  return opener;
}

/** A fresh age identity and its recipient. */
export async function makeIdentity(): Promise<{ readonly identity: string; readonly recipient: string }> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/** @throws AppError request-invalid naming the first that is no recipient */
export function checkRecipients(recipients: readonly string[]): void {
  for (const recipient of recipients) {
    try {
      new Encrypter().addRecipient(recipient);
    } catch (cause) {
      throw new AppError("request-invalid", `${recipient.slice(0, 80)} is not an age recipient (age1…)`, { cause });
    }
  }
}

async function openStream(source: string, opener: Opener | null): Promise<Readable> {
  const stored = createReadStream(source, { highWaterMark: 1 << 18 });
  if (opener === null) return stored;
  try {
    const stream = await opener.decrypt(Readable.toWeb(stored) as unknown as ReadableStream<Uint8Array>);
    return Readable.fromWeb(stream);
  } catch (cause) {
    stored.destroy();
    throw unreadable(source, cause);
  }
}

function unreadable(source: string, cause: unknown): AppError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AppError(
    "conflict",
    `${source} cannot be decrypted: ${why}. Is it the identity of one of the backup's recipients, and is the file whole?`,
    { cause },
  );
}

async function write(source: Readable, target: string): Promise<Omit<StoredFile, "name">> {
  const file: FileHandle = await open(target, "wx", 0o600);
  const hash = createHash("sha256");
  let size = 0;
  try {
    for await (const chunk of source) {
      const bytes = chunk as Uint8Array;
      hash.update(bytes);
      size += bytes.byteLength;
      await writeAll(file, bytes);
    }
    await file.chmod(0o600);
    await file.sync();
  } finally {
    source.destroy();
    await file.close();
  }
  return { size, sha256: hash.digest("hex") };
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await file.write(bytes, done);
    done += bytesWritten;
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "error";
}
