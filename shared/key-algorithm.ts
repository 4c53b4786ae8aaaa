import { createPublicKey, generateKeyPair, sign, verify, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { nullValue, oid, sequence } from "./der.ts";

/** The kinds of keys Newleaf makes and accepts. */
export type KeyAlgorithm = "ecdsa-p256" | "ecdsa-p384" | "ed25519" | "rsa-3072" | "rsa-4096";

export const keyAlgorithms = [
  "ecdsa-p256",
  "ecdsa-p384",
  "ed25519",
  "rsa-3072",
  "rsa-4096",
] as const satisfies readonly KeyAlgorithm[];

/** FIPS 186-5 §5.4 (e): odd, above 2^16 and below 2^256. */
const minExponent = 65_537n;
const maxExponent = 2n ** 256n;

const generatePair = promisify(generateKeyPair);

/** A fresh private key. */
export async function generateKey(algorithm: KeyAlgorithm): Promise<KeyObject> {
  switch (algorithm) {
    case "ecdsa-p256":
      return (await generatePair("ec", { namedCurve: "P-256" })).privateKey;
    case "ecdsa-p384":
      return (await generatePair("ec", { namedCurve: "P-384" })).privateKey;
    case "ed25519":
      return (await generatePair("ed25519")).privateKey;
    case "rsa-3072":
      return (await generatePair("rsa", { modulusLength: 3072, publicExponent: 65_537 })).privateKey;
    case "rsa-4096":
      return (await generatePair("rsa", { modulusLength: 4096, publicExponent: 65_537 })).privateKey;
    default:
      return algorithm satisfies never;
  }
}

/** Which of ours a public or private key is; null for every other key, an RSA key with a bad exponent included. */
export function algorithmOf(key: KeyObject): KeyAlgorithm | null {
  const type = key.asymmetricKeyType;
  if (type === "ed25519") return "ed25519";
  const details = key.asymmetricKeyDetails;
  if (type === "ec") return curves[details?.namedCurve ?? ""] ?? null;
  if (type !== "rsa") return null;
  const exponent = details?.publicExponent ?? 0n;
  if (exponent < minExponent || exponent >= maxExponent || exponent % 2n === 0n) return null;
  return details?.modulusLength === 3072 ? "rsa-3072" : details?.modulusLength === 4096 ? "rsa-4096" : null;
}

const curves: Readonly<Record<string, KeyAlgorithm>> = { prime256v1: "ecdsa-p256", secp384r1: "ecdsa-p384" };

/** A key as a refusal names it: `RSA-1024`, `RSA-3072 with exponent 3`, `EC secp256k1`, `DSA`. */
export function describeKey(key: KeyObject): string {
  const type = key.asymmetricKeyType ?? "unknown";
  const details = key.asymmetricKeyDetails;
  if (type === "ec") return `EC ${details?.namedCurve ?? "with explicit parameters"}`;
  if (type !== "rsa" && type !== "rsa-pss") return type.toUpperCase();
  const name = `${type.toUpperCase()}-${details?.modulusLength ?? "?"}`;
  const exponent = details?.publicExponent ?? 0n;
  return exponent === minExponent ? name : `${name} with exponent ${exponent < 2n ** 64n ? exponent : "above 2^64"}`;
}

export interface SignatureAlgorithm {
  /** DER AlgorithmIdentifier. */
  readonly identifier: Buffer;
  /** Name of the digest for node:crypto; null where the algorithm brings its own (Ed25519). */
  readonly hash: string | null;
}

/** ECDSA without parameters (RFC 5758 §3.2), RSA with NULL (RFC 4055 §5), Ed25519 without (RFC 8410 §3). */
const signatures: Readonly<Record<"p256" | "p384" | "rsa" | "ed25519", SignatureAlgorithm>> = {
  p256: { identifier: sequence(oid("1.2.840.10045.4.3.2")), hash: "sha256" },
  p384: { identifier: sequence(oid("1.2.840.10045.4.3.3")), hash: "sha384" },
  rsa: { identifier: sequence(oid("1.2.840.113549.1.1.11"), nullValue()), hash: "sha256" },
  ed25519: { identifier: sequence(oid("1.3.101.112")), hash: null },
};

/**
 * How this key signs: P-256 with SHA-256, P-384 with SHA-384, RSA PKCS#1 v1.5 with SHA-256, Ed25519.
 * @throws Error for any other kind of key
 */
export function signatureAlgorithm(key: KeyObject): SignatureAlgorithm {
  switch (algorithmOf(key)) {
    case "ecdsa-p256":
      return signatures.p256;
    case "ecdsa-p384":
      return signatures.p384;
    case "rsa-3072":
    case "rsa-4096":
      return signatures.rsa;
    case "ed25519":
      return signatures.ed25519;
    case null:
      throw new Error(`${describeKey(key)} is not a key that Newleaf signs with`);
  }
}

/** Signature over the bytes as certificates carry it (ECDSA as DER r, s). */
export function signBytes(key: KeyObject, bytes: Uint8Array): Buffer {
  return sign(signatureAlgorithm(key).hash, bytes, key);
}

/** Whether a signature by `signatureAlgorithm` of this key holds. */
export function verifyBytes(publicKey: KeyObject, bytes: Uint8Array, signature: Uint8Array): boolean {
  return verify(signatureAlgorithm(publicKey).hash, bytes, publicKey, signature);
}

/** The public half of a private key; a public key as it is. */
export function publicKeyOf(key: KeyObject): KeyObject {
  return key.type === "private" ? createPublicKey(key) : key;
}
