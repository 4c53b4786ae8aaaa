/**
 * The agent's own keys and leaves, under `state/<certificate>/`: the one place, besides the files made for the proxy, where a key
 * is PEM. A key and its leaf share one file, so no crash leaves a pair that does not match.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readdir, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import { createFileExclusively, makeDirectory, syncDirectory, writeFileDurably } from "@newleaf/shared/durable-file";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { generateKey, type KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";

const keyFile = "request-key.pem";
const leafFile = (leaf: string): string => `leaf-${leaf.slice("sha256:".length, "sha256:".length + 24)}.pem`;
const leafFilePattern = /^leaf-[0-9a-f]{24}\.pem$/;

export interface Credential {
  readonly key: KeyObject;
  /** DER. */
  readonly leaf: Buffer;
  /** DER of the intermediates, the leaf's issuer first. */
  readonly chain: readonly Buffer[];
  /** For the TLS client: leaf and intermediates, and the key. */
  readonly pem: { readonly cert: string; readonly key: string };
}

export interface CredentialStore {
  /** The key of a request to come or under way; null when there is none. */
  readRequestKey(): Promise<KeyObject | null>;
  /** That key, made when there is none. */
  requestKey(algorithm: KeyAlgorithm): Promise<KeyObject>;
  dropRequestKey(): Promise<void>;
  /** Keeps a leaf with its key; the same again changes nothing. @returns its fingerprint */
  writeLeaf(key: KeyObject, leaf: Buffer, chain: readonly Buffer[]): Promise<string>;
  /** @throws Error when it is not there or not whole */
  readLeaf(leaf: string): Promise<Credential>;
  /** Forgets every leaf but these. */
  keepLeaves(leaves: readonly string[]): Promise<void>;
}

/** The store in one directory, which is made (0700) when it is not there. */
export async function openCredentials(directory: string): Promise<CredentialStore> {
  await makeDirectory(directory, 0o700);
  const at = (name: string): string => join(directory, name);
  const readRequestKey = async (): Promise<KeyObject | null> => {
    const text = await readIfThere(at(keyFile));
    // Made but not finished: nobody can have been told of it.
    if (text === null || pemDecodeOrNone(text, "PRIVATE KEY").length !== 1) return null;
    return createPrivateKey(text);
  };
  const remove = async (name: string): Promise<void> => {
    await unlink(at(name)).catch(ignoreMissing);
    await syncDirectory(directory);
  };
  return {
    readRequestKey,
    async requestKey(algorithm) {
      const known = await readRequestKey();
      if (known !== null) return known;
      const key = await generateKey(algorithm);
      await unlink(at(keyFile)).catch(ignoreMissing);
      await createFileExclusively(at(keyFile), keyPem(key), { mode: 0o600 });
      return key;
    },
    dropRequestKey: () => remove(keyFile),
    async writeLeaf(key, leaf, chain) {
      const name = fingerprint(leaf);
      const certificates = [leaf, ...chain].map((der) => pemEncode("CERTIFICATE", der)).join("");
      await writeFileDurably(at(leafFile(name)), keyPem(key) + certificates, { mode: 0o600 });
      return name;
    },
    async readLeaf(leaf) {
      const path = at(leafFile(leaf));
      return parseCredential(await readFile(path, "utf8"), leaf, path);
    },
    async keepLeaves(leaves) {
      const keep = new Set(leaves.map(leafFile));
      for (const name of await readdir(directory)) {
        if (leafFilePattern.test(name) && !keep.has(name)) await remove(name);
      }
    },
  };
}

function parseCredential(text: string, expected: string, path: string): Credential {
  const [leaf, ...chain] = pemDecode(text, "CERTIFICATE");
  const [keyDer] = pemDecode(text, "PRIVATE KEY");
  if (leaf === undefined || keyDer === undefined || fingerprint(leaf) !== expected) {
    throw new Error(`${path} is damaged: it does not hold the leaf ${expected} and its key; enroll again`);
  }
  const key = createPrivateKey({ key: keyDer, format: "der", type: "pkcs8" });
  if (!new X509Certificate(leaf).checkPrivateKey(key))
    throw new Error(`${path} is damaged: key and leaf are no pair; enroll again`);
  const cert = [leaf, ...chain].map((der) => pemEncode("CERTIFICATE", der)).join("");
  return { key, leaf, chain, pem: { cert, key: keyPem(key) } };
}

function keyPem(key: KeyObject): string {
  return pemEncode("PRIVATE KEY", key.export({ type: "pkcs8", format: "der" }));
}

function pemDecodeOrNone(text: string, label: "PRIVATE KEY"): readonly Buffer[] {
  try {
    return pemDecode(text, label);
  } catch {
    return [];
  }
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    ignoreMissing(error);
    return null;
  }
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}
