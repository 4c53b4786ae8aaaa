/**
 * One backup, complete or not there. The order must not change:
 *
 * 1. a consistent copy of the database, checked by SQLite. When it will be encrypted it lies in the data directory, so that nothing
 *    readable ever touches the place of backups.
 * 2. every file into NAME.partial, encrypted if asked, hashed, fsynced.
 * 3. the manifest, signed, fsynced; the directory renamed to NAME; its parent fsynced. Only now it is a backup.
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { once } from "node:events";
import { extname, join } from "node:path";
import { Worker } from "node:worker_threads";
import { createFileExclusively, makeDirectory, syncDirectory } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import type { BackupSummary } from "../authority/backups.ts";
import type { CopyFacts } from "../store/restores.ts";
import type { Store } from "../store/store.ts";
import { type Manifest, manifestFile, signedBytes, type StoredFile } from "./manifest.ts";
import { checkRecipients, sealedSuffix } from "./sealed-file.ts";
import type { SealOrder } from "./sealer.ts";
import { describe, nameOf, partialSuffix, sweep } from "./shelf.ts";

export interface BackupOrder {
  readonly store: Pick<Store, "copyTo">;
  readonly dataDir: string;
  /** Absolute; made if need be. */
  readonly directory: string;
  readonly recipients: readonly string[];
  readonly now: number;
  /** Of Newleaf. */
  readonly version: string;
  /** The active issuer's signature; null when its key is not at hand. */
  readonly signer: { readonly id: string; sign(bytes: Uint8Array): Uint8Array } | null;
}

/** Copied beside the database, if they are there. */
const plainFiles = ["newleaf.yml", "roots.pem"] as const;

/**
 * @throws AppError request-invalid (recipients), conflict (a backup of this second is there), internal (the disk refuses)
 */
export async function makeBackup(order: BackupOrder): Promise<BackupSummary> {
  checkRecipients(order.recipients);
  try {
    await makeDirectory(order.directory, 0o700);
    await sweep(order.directory, Date.now());
    return await make(order);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof AppError || code === undefined) throw error;
    throw new AppError(
      "internal",
      `The backup could not be written to ${order.directory}: ${(error as Error).message}. Earlier backups are untouched`,
      { cause: error },
    );
  }
}

async function make(order: BackupOrder): Promise<BackupSummary> {
  const name = nameOf(order.now);
  const path = join(order.directory, name);
  if (existsSync(path)) {
    throw new AppError("conflict", `There is a backup ${path} of this very second; try again`, {
      retryAfterSeconds: 1,
    });
  }
  const partial = `${path}${partialSuffix}`;
  await mkdir(partial, { mode: 0o700 });
  try {
    const { facts, files, holdsKeys } = await fill(partial, order);
    const manifest = sign(order, {
      format: 1,
      version: order.version,
      createdAt: new Date(order.now).toISOString(),
      encrypted: order.recipients.length > 0,
      holdsKeys,
      facts,
      files,
      signature: null,
    });
    await createFileExclusively(join(partial, manifestFile), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600 });
    await syncDirectory(partial);
    await rename(partial, path);
    await syncDirectory(order.directory);
    return describe(name, path, manifest);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

async function fill(
  partial: string,
  order: BackupOrder,
): Promise<{ readonly facts: CopyFacts; readonly files: readonly StoredFile[]; readonly holdsKeys: boolean }> {
  const { dataDir, recipients } = order;
  if (recipients.length === 0) return fillFrom(join(partial, "newleaf.db"), partial, order, []);
  const scratch = await mkdtemp(join(dataDir, ".backup-"));
  try {
    return await fillFrom(join(scratch, "newleaf.db"), partial, order, await issuerKeys(dataDir));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function fillFrom(
  copy: string,
  partial: string,
  { store, dataDir, recipients }: BackupOrder,
  keys: readonly { readonly name: string; readonly source: string }[],
) {
  const facts = await store.copyTo(copy);
  if (keys.length > 0) await mkdir(join(partial, "issuers"), { mode: 0o700 });
  const sources = [
    { name: "newleaf.db", source: copy },
    ...plainFiles.map((name) => ({ name, source: join(dataDir, name) })).filter(({ source }) => existsSync(source)),
    ...keys,
  ];
  const suffix = recipients.length > 0 ? sealedSuffix : "";
  const files = await seal({
    recipients,
    files: sources.map(({ name, source }) => ({
      name: `${name}${suffix}`,
      source,
      target: join(partial, `${name}${suffix}`),
    })),
  });
  if (keys.length > 0) await syncDirectory(join(partial, "issuers"));
  return { facts, files, holdsKeys: keys.length > 0 };
}

async function issuerKeys(dataDir: string): Promise<readonly { readonly name: string; readonly source: string }[]> {
  const directory = join(dataDir, "issuers");
  if (!existsSync(directory)) return [];
  return (await readdir(directory))
    .filter((name) => /^[A-Za-z0-9._-]+\.key\.pem$/.test(name))
    .toSorted()
    .map((name) => ({ name: `issuers/${name}`, source: join(directory, name) }));
}

async function seal(order: SealOrder): Promise<readonly StoredFile[]> {
  const url = new URL(`./sealer${extname(import.meta.filename)}`, import.meta.url);
  const worker = new Worker(url, { name: "newleaf-sealer", workerData: order });
  const exited = once(worker, "exit");
  const [files] = (await once(worker, "message")) as [readonly StoredFile[]];
  await exited;
  return files;
}

function sign(order: BackupOrder, manifest: Manifest): Manifest {
  if (order.signer === null) return manifest;
  const value = Buffer.from(order.signer.sign(signedBytes(manifest))).toString("base64");
  return { ...manifest, signature: { issuer: order.signer.id, value } };
}
