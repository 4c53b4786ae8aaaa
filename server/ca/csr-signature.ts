import { DerReader, oidText } from "@newleaf/shared/der-reader";
import { nullValue, oid, sequence, tags } from "@newleaf/shared/der";
import type { KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import { AppError } from "@newleaf/shared/problems";

interface Accepted {
  readonly kind: "ecdsa" | "rsa" | "ed25519";
  /** For node:crypto; null where the algorithm brings its own. */
  readonly hash: string | null;
}

const rsa = {
  sha256: "1.2.840.113549.1.1.11",
  sha384: "1.2.840.113549.1.1.12",
  sha512: "1.2.840.113549.1.1.13",
} as const;
const ecdsa = { sha256: "1.2.840.10045.4.3.2", sha384: "1.2.840.10045.4.3.3", sha512: "1.2.840.10045.4.3.4" } as const;

/** By hex of the AlgorithmIdentifier: parameters absent for ECDSA (RFC 5758 §3.2), NULL or absent for RSA (RFC 4055 §5). */
const accepted = new Map<string, Accepted>([
  ...Object.entries(ecdsa).map(([hash, id]): [string, Accepted] => [key(sequence(oid(id))), { kind: "ecdsa", hash }]),
  ...Object.entries(rsa).map(([hash, id]): [string, Accepted] => [
    key(sequence(oid(id), nullValue())),
    { kind: "rsa", hash },
  ]),
  ...Object.entries(rsa).map(([hash, id]): [string, Accepted] => [key(sequence(oid(id))), { kind: "rsa", hash }]),
  [key(sequence(oid("1.3.101.112"))), { kind: "ed25519", hash: null }],
]);

/** What one meets in old requests, to refuse it by name. */
const refused: Readonly<Record<string, string>> = {
  "1.2.840.113549.1.1.4": "MD5 with RSA",
  "1.2.840.113549.1.1.5": "SHA-1 with RSA",
  "1.2.840.113549.1.1.10": "RSASSA-PSS",
  "1.2.840.113549.1.1.14": "SHA-224 with RSA",
  "1.2.840.10045.4.1": "SHA-1 with ECDSA",
  "1.2.840.10045.4.3.1": "SHA-224 with ECDSA",
};

const kinds: Readonly<Record<KeyAlgorithm, Accepted["kind"]>> = {
  "ecdsa-p256": "ecdsa",
  "ecdsa-p384": "ecdsa",
  ed25519: "ed25519",
  "rsa-3072": "rsa",
  "rsa-4096": "rsa",
};

/**
 * The digest with which a request's signature is verified; null for Ed25519.
 * @param identifier DER AlgorithmIdentifier of the signature
 * @throws AppError `csr-signature-invalid` for an algorithm that is not SHA-2 or does not fit the key
 */
export function signatureHash(identifier: Buffer, algorithm: KeyAlgorithm): string | null {
  const found = accepted.get(key(identifier));
  if (found?.kind === kinds[algorithm]) return found.hash;
  const id = oidText(new DerReader(identifier).sequence("signatureAlgorithm").content(tags.oid, "signatureAlgorithm"));
  const name =
    found === undefined ? (refused[id] ?? `algorithm ${id}`) : `${found.kind}, which its ${algorithm} key cannot do`;
  throw new AppError(
    "csr-signature-invalid",
    `The request is signed with ${name}; sign it with SHA-256, SHA-384 or SHA-512, or with Ed25519`,
  );
}

function key(identifier: Buffer): string {
  return identifier.toString("hex");
}
