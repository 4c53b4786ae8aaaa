import { createCipheriv, createPrivateKey, pbkdf2, randomBytes, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { integer, nullValue, octetString, oid, sequence } from "@newleaf/shared/der";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";

const derive = promisify(pbkdf2);

/** OWASP's figure for PBKDF2 with HMAC-SHA-256. */
const iterations = 600_000;
const saltOctets = 16;
const keyOctets = 32;
const blockOctets = 16;

const pbes2 = oid("1.2.840.113549.1.5.13");
const pbkdf2Id = oid("1.2.840.113549.1.5.12");
const hmacWithSha256 = sequence(oid("1.2.840.113549.2.9"), nullValue());
const aes256Cbc = oid("2.16.840.1.101.3.4.1.42");

/**
 * PEM of an EncryptedPrivateKeyInfo (RFC 5958 §3): PBES2 (RFC 8018 §6.2) with PBKDF2-HMAC-SHA-256 and AES-256-CBC, which
 * openssl reads as well. Takes a fraction of a second on purpose.
 * @throws AppError `request-invalid` for an empty passphrase
 */
export async function encryptPrivateKey(key: KeyObject, passphrase: string): Promise<string> {
  if (passphrase === "")
    throw new AppError("request-invalid", "The passphrase is empty; a key file without one protects nothing");
  const salt = randomBytes(saltOctets);
  const vector = randomBytes(blockOctets);
  const secret = await derive(passphrase, salt, iterations, keyOctets, "sha256");
  const cipher = createCipheriv("aes-256-cbc", secret, vector);
  const plain = key.export({ type: "pkcs8", format: "der" });
  const encrypted = Buffer.concat([cipher.update(plain), cipher.final()]);
  plain.fill(0);
  secret.fill(0);
  const derivation = sequence(pbkdf2Id, sequence(octetString(salt), integer(iterations), hmacWithSha256));
  const algorithm = sequence(pbes2, sequence(derivation, sequence(aes256Cbc, octetString(vector))));
  return pemEncode("ENCRYPTED PRIVATE KEY", sequence(algorithm, octetString(encrypted)));
}

/**
 * The key in an encrypted PEM.
 * @throws AppError `request-invalid` when the passphrase is not the one it was encrypted with, or the text is not such a PEM
 */
export function decryptPrivateKey(pem: string, passphrase: string): KeyObject {
  if (!pem.includes("-----BEGIN ENCRYPTED PRIVATE KEY-----")) {
    throw new AppError("request-invalid", "This is not an encrypted private key (PKCS#8 PEM)");
  }
  try {
    return createPrivateKey({ key: pem, format: "pem", passphrase });
  } catch {
    // The library's error is left out: some of them quote their input.
    throw new AppError(
      "request-invalid",
      "The private key cannot be decrypted: the passphrase is wrong, or the file is damaged",
    );
  }
}

/**
 * Writes an unencrypted PKCS#8 PEM, 0600 from its first byte, durable when this resolves. An existing file is never replaced.
 * @throws Error EEXIST
 */
export async function writePrivateKey(file: string, key: KeyObject): Promise<void> {
  const der = key.export({ type: "pkcs8", format: "der" });
  await createFileExclusively(file, pemEncode("PRIVATE KEY", der), { mode: 0o600 });
  der.fill(0);
}
