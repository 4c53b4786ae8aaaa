/**
 * PKCS#12 stores (RFC 7292), as Java and OpenSSL 3 read them without legacy algorithms: PBES2 with AES-256 (RFC 8018 §6.2) and
 * a MAC with HMAC-SHA256. Written with shared/der.ts alone; docs/decisions/0006-pkcs12-by-hand.md says why.
 */
import { createCipheriv, createHmac, hash, hkdfSync, type KeyObject, pbkdf2, X509Certificate } from "node:crypto";
import { promisify } from "node:util";
import { explicit, integer, nullValue, octetString, oid, sequence, setOf, tlv } from "./der.ts";

/**
 * For encryption and MAC alike, the weaker of which is what an attacker tries: five times what OpenSSL and Java take by themselves,
 * and still a small part of a second for the server at its start.
 */
export const iterations = 50_000;
const saltBytes = 16;
const blockBytes = 16;
const keyBytes = 32;

export interface StoreProtection {
  /** Printable ASCII, so that every program makes the same bytes of it. */
  readonly passphrase: string;
  /**
   * What salts and initialisation vectors are derived from, together with the content: the same content makes the same bytes, so
   * a store that a crash left half installed is recognised, and nobody without this key can tell them beforehand.
   */
  readonly seed: KeyObject;
}

/** One private key with its chain. `alias` becomes friendlyName. Certificates are DER, the leaf first, no root. */
export async function keyStore(
  entry: { readonly alias: string; readonly key: KeyObject; readonly certificates: readonly Buffer[] },
  protection: StoreProtection,
): Promise<Buffer> {
  const { alias, key, certificates } = entry;
  const [leaf, ...chain] = certificates;
  if (leaf === undefined) throw new Error("a keystore needs a certificate for its key");
  const derive = derivation(protection, "keystore", [
    key.export({ type: "pkcs8", format: "der" }),
    ...certificates,
    alias,
  ]);
  // What ties the two together (PKCS #9 localKeyId): any bytes that both bags have.
  const localKeyId = hash("sha256", leaf, "buffer");
  const attributes = [
    attribute(ids.friendlyName, bmpString(alias)),
    attribute(ids.localKeyId, octetString(localKeyId)),
  ];
  const shrouded = await encrypted(key.export({ type: "pkcs8", format: "der" }), protection, derive, "key");
  const keyBag = bag(ids.shroudedKeyBag, sequence(shrouded.algorithm, octetString(shrouded.data)), attributes);
  const certificateBags = [certificateBag(leaf, attributes), ...chain.map((der) => certificateBag(der, []))];
  return pfx([plainSafe([keyBag]), await encryptedSafe(certificateBags, protection, derive)], protection, derive);
}

/** Certificates that are trusted. Java shows only those that say so. DER. */
export async function trustStore(certificates: readonly Buffer[], protection: StoreProtection): Promise<Buffer> {
  const derive = derivation(protection, "truststore", certificates);
  const bags = certificates.map((der) =>
    certificateBag(der, [
      attribute(ids.friendlyName, bmpString(trustedAlias(der))),
      attribute(ids.trustedKeyUsage, oid(ids.anyExtendedKeyUsage)),
    ]),
  );
  return pfx([await encryptedSafe(bags, protection, derive)], protection, derive);
}

/** A passphrase that OpenSSL, Java and Windows turn into the same bytes. @returns what is wrong with it, or null */
export function passphraseProblem(passphrase: string): string | null {
  if (passphrase === "") return "is empty";
  if (passphrase.length < 6) return "is shorter than 6 characters, the least Java's keytool takes";
  if (passphrase.length > 1000) return "is longer than 1000 characters";
  if (!/^[ -~]*$/.test(passphrase))
    return "has characters other than printable ASCII, which programs encode differently";
  return null;
}

const ids = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  /** Oracle's: without it Java takes a certificate for one of no entry, and shows nothing. */
  trustedKeyUsage: "2.16.840.1.113894.746875.1.1",
  anyExtendedKeyUsage: "2.5.29.37.0",
  pbes2: "1.2.840.113549.1.5.13",
  pbkdf2: "1.2.840.113549.1.5.12",
  hmacSha256: "1.2.840.113549.2.9",
  aes256Cbc: "2.16.840.1.101.3.4.1.42",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

const bmpStringTag = 0x1e;
const pbkdf2Async = promisify(pbkdf2);

/** Unique among certificates: Java keeps one entry for a name, in small letters. */
function trustedAlias(der: Buffer): string {
  const commonName = /^CN=(.*)$/m.exec(new X509Certificate(der).subject)?.[1] ?? "authority";
  return `${commonName.toLowerCase()} ${hash("sha256", der).slice(0, 16)}`;
}

type Derive = (purpose: string, bytes: number) => Buffer;

/** HKDF (RFC 5869) of the seed key over everything that goes in: another passphrase or content, another salt. */
function derivation(
  { seed, passphrase }: StoreProtection,
  kind: string,
  content: readonly (Buffer | string)[],
): Derive {
  const secret = seed.export({ type: "pkcs8", format: "der" });
  const all = createHmac("sha256", secret);
  for (const part of [kind, passphrase, ...content]) {
    const bytes = Buffer.from(part);
    all.update(`${bytes.length}:`).update(bytes);
  }
  const digest = all.digest();
  return (purpose, bytes) => Buffer.from(hkdfSync("sha256", secret, digest, `newleaf pkcs12 ${purpose}`, bytes));
}

interface Encrypted {
  /** AlgorithmIdentifier. */
  readonly algorithm: Buffer;
  readonly data: Buffer;
}

async function encrypted(
  plain: Buffer,
  { passphrase }: StoreProtection,
  derive: Derive,
  purpose: string,
): Promise<Encrypted> {
  const salt = derive(`${purpose} salt`, saltBytes);
  const iv = derive(`${purpose} iv`, blockBytes);
  const key = await pbkdf2Async(Buffer.from(passphrase, "latin1"), salt, iterations, keyBytes, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, iv);
  const data = Buffer.concat([cipher.update(plain), cipher.final()]);
  const derivationOf = sequence(
    oid(ids.pbkdf2),
    sequence(octetString(salt), integer(iterations), integer(keyBytes), sequence(oid(ids.hmacSha256), nullValue())),
  );
  const scheme = sequence(oid(ids.aes256Cbc), octetString(iv));
  return { algorithm: sequence(oid(ids.pbes2), sequence(derivationOf, scheme)), data };
}

function plainSafe(bags: readonly Buffer[]): Buffer {
  return contentInfo(ids.data, octetString(sequence(...bags)));
}

async function encryptedSafe(bags: readonly Buffer[], protection: StoreProtection, derive: Derive): Promise<Buffer> {
  const { algorithm, data } = await encrypted(sequence(...bags), protection, derive, "certificates");
  const content = sequence(oid(ids.data), algorithm, tlv(0x80, data));
  return contentInfo(ids.encryptedData, sequence(integer(0), content));
}

/** RFC 7292 §4: version 3, the safes, and a MAC over them. */
function pfx(safes: readonly Buffer[], { passphrase }: StoreProtection, derive: Derive): Buffer {
  const safe = sequence(...safes);
  const salt = derive("mac salt", saltBytes);
  const mac = createHmac("sha256", macKey(passphrase, salt, iterations))
    .update(safe)
    .digest();
  const digestInfo = sequence(sequence(oid(ids.sha256), nullValue()), octetString(mac));
  const macData = sequence(digestInfo, octetString(salt), integer(iterations));
  return sequence(integer(3), contentInfo(ids.data, octetString(safe)), macData);
}

/**
 * The key of the MAC: RFC 7292 appendix B.2 with SHA-256 (u = 32, v = 64) and ID = 3. One block of output is all that is needed,
 * so the steps for further ones (6B, 6C) are not there.
 */
export function macKey(passphrase: string, salt: Buffer, rounds: number): Buffer {
  const v = 64;
  const fill = (bytes: Buffer): Buffer => Buffer.alloc(Math.ceil(bytes.length / v) * v, bytes);
  // Appendix B.1: big-endian UTF-16 with two null octets at the end.
  const password = Buffer.concat([utf16(passphrase), Buffer.alloc(2)]);
  const diversifier = Buffer.alloc(v, 3);
  let digest = hash("sha256", Buffer.concat([diversifier, fill(salt), fill(password)]), "buffer");
  for (let round = 1; round < rounds; round += 1) digest = hash("sha256", digest, "buffer");
  return digest;
}

function bag(type: string, value: Buffer, attributes: readonly Buffer[]): Buffer {
  return sequence(oid(type), explicit(0, value), ...(attributes.length === 0 ? [] : [setOf(...attributes)]));
}

function certificateBag(der: Buffer, attributes: readonly Buffer[]): Buffer {
  return bag(ids.certBag, sequence(oid(ids.x509Certificate), explicit(0, octetString(der))), attributes);
}

function attribute(type: string, value: Buffer): Buffer {
  return sequence(oid(type), setOf(value));
}

function contentInfo(type: string, content: Buffer): Buffer {
  return sequence(oid(type), explicit(0, content));
}

function bmpString(text: string): Buffer {
  return tlv(bmpStringTag, utf16(text));
}

function utf16(text: string): Buffer {
  return Buffer.from(text, "utf16le").swap16();
}
