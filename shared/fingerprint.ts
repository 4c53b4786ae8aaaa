import { createHash, createPublicKey, type KeyObject } from "node:crypto";

const pattern = /^sha256:[0-9a-f]{64}$/;

/** `sha256:` and hex of the SHA-256 of DER bytes: over a SubjectPublicKeyInfo for keys, over the whole DER for certificates. */
export function fingerprint(der: Uint8Array): string {
  return `sha256:${createHash("sha256").update(der).digest("hex")}`;
}

/** SPKI fingerprint of a public or private key. */
export function keyFingerprint(key: KeyObject): string {
  return fingerprint(spkiOf(key));
}

/** DER SubjectPublicKeyInfo of a public or private key. */
export function spkiOf(key: KeyObject): Buffer {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  return publicKey.export({ type: "spki", format: "der" });
}

export function isFingerprint(text: string): boolean {
  return pattern.test(text);
}

/** The id of a CA: the first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo. One id for a key, whoever certified it. */
export function issuerId(spki: Uint8Array): string {
  return createHash("sha256").update(spki).digest("hex").slice(0, 16);
}
