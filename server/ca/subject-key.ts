import { bitStringOctets, DerReader, oidText, readElement, requireDer, unsigned } from "@newleaf/shared/der-reader";
import { DerError, nullValue, oid, sequence, tags } from "@newleaf/shared/der";
import type { KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import { AppError } from "@newleaf/shared/problems";

/** AlgorithmIdentifiers of acceptable keys, byte for byte (RFC 5480 §2.1.1, RFC 8410 §3, RFC 3279 §2.3.1). */
const ids = {
  p256: sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")),
  p384: sequence(oid("1.2.840.10045.2.1"), oid("1.3.132.0.34")),
  ed25519: sequence(oid("1.3.101.112")),
  rsa: sequence(oid("1.2.840.113549.1.1.1"), nullValue()),
} as const;

/** FIPS 186-5 §5.4 (e): odd, above 2^16, below 2^256. */
const minExponent = 65_537n;
const maxExponent = 2n ** 256n;

/**
 * Which acceptable key a SubjectPublicKeyInfo is, judged on its bytes: one key must have one encoding here, or it would
 * have two fingerprints and could stand under two identities. Points are therefore uncompressed.
 * @throws AppError `key-not-acceptable`, DerError (not a SubjectPublicKeyInfo; explicit curve parameters, which RFC 5480 §2.1.1 forbids)
 */
export function acceptKey(spki: Uint8Array): KeyAlgorithm {
  const reader = new DerReader(readElement(spki, tags.sequence, "subjectPKInfo"));
  const id = reader.element(tags.sequence, "algorithm");
  const key = bitStringOctets(reader.content(tags.bitString, "subjectPublicKey"), "subjectPublicKey");
  reader.end("subjectPKInfo");
  if (id.bytes.equals(ids.p256)) return uncompressed(key, 65, "ecdsa-p256");
  if (id.bytes.equals(ids.p384)) return uncompressed(key, 97, "ecdsa-p384");
  if (id.bytes.equals(ids.rsa)) return acceptRsa(key);
  if (!id.bytes.equals(ids.ed25519)) throw unacceptable(describeAlgorithm(id.content));
  if (key.length !== 32) throw new DerError("an Ed25519 key has 32 octets");
  return "ed25519";
}

function uncompressed(point: Buffer, length: number, algorithm: KeyAlgorithm): KeyAlgorithm {
  if (point[0] === 0x04 && point.length === length) return algorithm;
  if (point[0] === 0x02 || point[0] === 0x03) throw unacceptable(`${algorithm} as a compressed point`);
  throw new DerError("the public key is not an uncompressed point of its curve");
}

function acceptRsa(key: Buffer): KeyAlgorithm {
  requireDer(key, "RSAPublicKey");
  const reader = new DerReader(key).sequence("RSAPublicKey");
  const modulus = unsigned(reader.content(tags.integer, "modulus"), "modulus");
  const exponent = unsigned(reader.content(tags.integer, "publicExponent"), "publicExponent");
  reader.end("RSAPublicKey");
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  const e = exponent.length > 32 ? maxExponent : BigInt(`0x${exponent.toString("hex")}`);
  if (bits !== 3072 && bits !== 4096) throw unacceptable(`RSA-${bits}`);
  if (e < minExponent || e >= maxExponent || e % 2n === 0n) {
    throw unacceptable(`RSA-${bits} with exponent ${e < 2n ** 64n ? e : "above 2^64"}`);
  }
  if ((modulus.at(-1) ?? 0) % 2 === 0) throw unacceptable(`RSA-${bits} with an even modulus`);
  return bits === 3072 ? "rsa-3072" : "rsa-4096";
}

const ecPublicKey = "1.2.840.10045.2.1";
const curves: Readonly<Record<string, string>> = {
  "1.2.840.10045.3.1.1": "P-192",
  "1.3.132.0.33": "P-224",
  "1.3.132.0.35": "P-521",
  "1.3.132.0.10": "secp256k1",
  "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
  "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
  "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
  "1.2.156.10197.1.301": "SM2",
};
const algorithms: Readonly<Record<string, string>> = {
  "1.2.840.113549.1.1.1": "RSA without the NULL parameters",
  "1.2.840.113549.1.1.10": "RSASSA-PSS",
  "1.2.840.10040.4.1": "DSA",
  "1.2.840.113549.1.3.1": "Diffie-Hellman",
  "1.3.101.110": "X25519",
  "1.3.101.111": "X448",
  "1.3.101.112": "Ed25519 with parameters",
  "1.3.101.113": "Ed448",
  "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
  "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
  "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
};

function describeAlgorithm(identifier: Buffer): string {
  const reader = new DerReader(identifier);
  const id = oidText(reader.content(tags.oid, "algorithm"));
  if (id !== ecPublicKey) return algorithms[id] ?? `algorithm ${id}`;
  if (reader.nextTag !== tags.oid)
    throw new DerError("the curve is not named but spelled out (RFC 5480 §2.1.1 forbids explicit parameters)");
  const curve = oidText(reader.content(tags.oid, "namedCurve"));
  return `EC ${curves[curve] ?? `curve ${curve}`}`;
}

function unacceptable(found: string): AppError {
  return new AppError(
    "key-not-acceptable",
    `The request's key is ${found}; make one of ECDSA P-256, ECDSA P-384, Ed25519, RSA-3072 or RSA-4096`,
  );
}
