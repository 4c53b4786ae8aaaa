import { createPublicKey, sign, type KeyObject } from "node:crypto";
import { DerError } from "@newleaf/shared/der";
import { issuerId, spkiOf } from "@newleaf/shared/fingerprint";
import { signatureAlgorithm, verifyBytes } from "@newleaf/shared/key-algorithm";
import { AppError } from "@newleaf/shared/problems";
import { readBasicConstraints, readCertificate, readKeyUsage, subjectKeyId } from "./certificate.ts";
import { extensions, keyUsageBits } from "./oids.ts";

/** A CA certificate together with its signer. */
export interface Issuer {
  readonly id: string;
  /** DER. */
  readonly certificate: Buffer;
  /** DER Name, byte for byte: the issuer of everything it signs. */
  readonly subject: Buffer;
  /** Its subjectKeyIdentifier: the authorityKeyIdentifier of everything it signs. */
  readonly keyId: Buffer;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly publicKey: KeyObject;
  /** DER AlgorithmIdentifier. */
  readonly signatureAlgorithm: Buffer;
  /**
   * True when the signer is elsewhere (PKCS#11, KMS): a signature can then outlive this process, so what will be signed is
   * made durable first, and each signature is verified before it is used. False for a key in this process, whose unreleased
   * signatures die with it and which was proved to sign when it was opened.
   */
  readonly recordFirst: boolean;
  sign(tbs: Uint8Array): Buffer;
}

export interface IssuerCertificate {
  readonly id: string;
  readonly certificate: Buffer;
  readonly serial: string;
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly keyId: Buffer;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spki: Buffer;
  readonly publicKey: KeyObject;
}

/**
 * Joins a CA certificate and its private key.
 * @throws AppError `conflict` when the key is not the certificate's, or it is not a CA certificate that can be used here
 */
export function openIssuer(certificateDer: Uint8Array, privateKey: KeyObject): Issuer {
  const { id, certificate, subject, keyId, notBefore, notAfter, spki, publicKey } =
    readIssuerCertificate(certificateDer);
  if (!spkiOf(privateKey).equals(spki)) {
    throw new AppError(
      "conflict",
      `The private key is not the key of the CA certificate ${id}; use the key file made with it`,
    );
  }
  // Looked up once: asking a KeyObject for its details costs as much as a signature.
  const algorithm = signatureAlgorithm(privateKey);
  const signIt = (tbs: Uint8Array): Buffer => sign(algorithm.hash, tbs, privateKey);
  if (!verifyBytes(publicKey, certificate, signIt(certificate))) {
    throw new Error(`The private key of issuer ${id} makes signatures that do not hold`);
  }
  return Object.freeze({
    id,
    certificate,
    subject,
    keyId,
    notBefore,
    notAfter,
    publicKey,
    signatureAlgorithm: algorithm.identifier,
    recordFirst: false,
    sign: signIt,
  });
}

/**
 * What an issuer's certificate says, checked to be a CA that may sign certificates and CRLs (RFC 5280 §4.2.1.2, §4.2.1.3, §4.2.1.9).
 * @throws AppError `conflict`
 */
export function readIssuerCertificate(der: Uint8Array): IssuerCertificate {
  const certificate = Buffer.from(der);
  try {
    const fields = readCertificate(certificate);
    const constraints = fields.extensions.get(extensions.basicConstraints);
    const usage = fields.extensions.get(extensions.keyUsage);
    const keyId = subjectKeyId(fields);
    if (constraints === undefined || !readBasicConstraints(constraints.value).ca)
      throw new DerError("basicConstraints does not say CA:TRUE");
    const bits = usage === undefined ? new Set<number>() : readKeyUsage(usage.value);
    if (!bits.has(keyUsageBits.keyCertSign) || !bits.has(keyUsageBits.cRLSign)) {
      throw new DerError("keyUsage does not allow to sign certificates and CRLs");
    }
    if (keyId === null) throw new DerError("it has no subjectKeyIdentifier");
    const publicKey = createPublicKey({ key: fields.spki, format: "der", type: "spki" });
    const { serial, issuer, subject, notBefore, notAfter, spki } = fields;
    return { id: issuerId(spki), certificate, serial, issuer, subject, keyId, notBefore, notAfter, spki, publicKey };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AppError("conflict", `The CA certificate cannot be used: ${why}`, { cause: error });
  }
}
