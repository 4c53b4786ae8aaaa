/**
 * manifest.json: what a backup is and holds. It is not secret and not encrypted, so that backups can be listed without a key. The
 * issuer that was active signs it: whoever changes it, or puts other files beside it, is found out by `newleaf backup verify`.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import { canonicalJson } from "../audit-chain.ts";
import type { JournalPosition } from "../store/journal.ts";
import type { CopyFacts } from "../store/restores.ts";

export const manifestFile = "manifest.json";

export interface StoredFile {
  /** As it lies in the backup: `newleaf.db`, `newleaf.db.age`, `issuers/….key.pem.age`. */
  readonly name: string;
  /** Octets. */
  readonly size: number;
  /** Hex, over the octets as they lie there. */
  readonly sha256: string;
}

export interface Manifest {
  readonly format: 1;
  /** Of Newleaf. */
  readonly version: string;
  /** ISO 8601. */
  readonly createdAt: string;
  readonly encrypted: boolean;
  readonly holdsKeys: boolean;
  readonly facts: CopyFacts;
  readonly files: readonly StoredFile[];
  /** Null when no issuer's key was at hand. */
  readonly signature: { readonly issuer: string; /** Base64. */ readonly value: string } | null;
}

/** What is signed: begins with a word, so that it can never be taken for a certificate or a CRL, which begin with a SEQUENCE. */
export function signedBytes(manifest: Manifest): Buffer {
  const { signature: _signature, ...rest } = manifest;
  return Buffer.from(`newleaf backup manifest 1\n${canonicalJson(rest)}`, "utf8");
}

/**
 * @throws AppError not-found (no manifest: no backup, or an unfinished one), conflict (damaged, or of a newer version)
 */
export async function readManifest(directory: string): Promise<Manifest> {
  const file = join(directory, manifestFile);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new AppError(
      "not-found",
      `There is no ${file}: this is no backup, or one that was not finished. Name the directory that holds it`,
      { cause },
    );
  }
  const manifest = parse(text);
  if (manifest === null) {
    throw new AppError(
      "conflict",
      `${file} is not a manifest of this version of Newleaf: it is damaged, or from a newer one`,
    );
  }
  return manifest;
}

function parse(text: string): Manifest | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(value) || value["format"] !== 1 || !isFacts(value["facts"])) return null;
  const { version, createdAt, encrypted, holdsKeys, facts, files, signature } = value;
  if (typeof version !== "string" || typeof createdAt !== "string" || Number.isNaN(Date.parse(createdAt))) return null;
  if (typeof encrypted !== "boolean" || typeof holdsKeys !== "boolean") return null;
  if (!Array.isArray(files) || !files.every(isStoredFile) || !isSignature(signature)) return null;
  return { format: 1, version, createdAt, encrypted, holdsKeys, facts, files, signature };
}

function isFacts(value: unknown): value is CopyFacts {
  if (!isRecord(value)) return false;
  const { schema, tables, audit, crls, bundleVersion, journal, restores } = value;
  return (
    [schema, bundleVersion, restores].every(isCount) &&
    isCounts(tables) &&
    isCounts(crls) &&
    isRecord(audit) &&
    isCount(audit["seq"]) &&
    typeof audit["hash"] === "string" &&
    isPosition(journal)
  );
}

function isPosition(value: unknown): value is JournalPosition | null {
  if (value === null) return true;
  return (
    isRecord(value) && typeof value["journal"] === "string" && isCount(value["n"]) && typeof value["hash"] === "string"
  );
}

/** Names lead nowhere but into the backup itself. */
const fileName = /^(issuers\/)?[A-Za-z0-9][A-Za-z0-9._-]{0,120}$/;

function isStoredFile(value: unknown): value is StoredFile {
  if (!isRecord(value)) return false;
  const { name, size, sha256 } = value;
  return (
    typeof name === "string" &&
    fileName.test(name) &&
    isCount(size) &&
    typeof sha256 === "string" &&
    /^[0-9a-f]{64}$/.test(sha256)
  );
}

function isSignature(value: unknown): value is Manifest["signature"] {
  return (
    value === null || (isRecord(value) && typeof value["issuer"] === "string" && typeof value["value"] === "string")
  );
}

function isCounts(value: unknown): value is Readonly<Record<string, number>> {
  return isRecord(value) && Object.values(value).every(isCount);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
