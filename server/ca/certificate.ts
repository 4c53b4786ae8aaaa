import {
  bitStringOctets,
  booleanValue,
  DerReader,
  readElement,
  requireDer,
  smallInteger,
  timeValue,
  unsigned,
} from "@newleaf/shared/der-reader";
import { DerError, tags } from "@newleaf/shared/der";
import { readExtension, type Extension } from "@newleaf/shared/extension";
import { serialFromBytes } from "@newleaf/shared/serial-number";
import { extensions } from "./oids.ts";

export interface TbsCertificate {
  readonly serial: string;
  /** DER AlgorithmIdentifier inside the signed part. */
  readonly signatureAlgorithm: Buffer;
  /** DER Names, byte for byte. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  readonly extensions: ReadonlyMap<string, Extension>;
}

export interface CertificateFields extends TbsCertificate {
  /** The signed part, tag and length included. */
  readonly tbs: Buffer;
  /** Octets of the signature. */
  readonly signature: Buffer;
}

/**
 * A v3 certificate in strict DER (RFC 5280 §4.1). All buffers are views.
 * @throws DerError
 */
export function readCertificate(der: Uint8Array): CertificateFields {
  requireDer(der, "Certificate");
  const certificate = new DerReader(der).sequence("Certificate");
  const tbs = certificate.element(tags.sequence, "tbsCertificate").bytes;
  const outer = certificate.element(tags.sequence, "signatureAlgorithm").bytes;
  const signature = bitStringOctets(certificate.content(tags.bitString, "signatureValue"), "signatureValue");
  certificate.end("Certificate");
  const fields = readTbsCertificate(tbs);
  // RFC 5280 §4.1.1.2
  if (!fields.signatureAlgorithm.equals(outer))
    throw new DerError("The certificate names two different signature algorithms");
  return { ...fields, tbs, signature };
}

/** The part that is signed. */
export function readTbsCertificate(tbs: Uint8Array): TbsCertificate {
  const reader = new DerReader(readElement(tbs, tags.sequence, "tbsCertificate"));
  const version = readElement(reader.content(0xa0, "version"), tags.integer, "version");
  if (smallInteger(version, "version") !== 2) throw new DerError("The certificate is not of version 3");
  const serial = serialFromBytes(unsigned(reader.content(tags.integer, "serialNumber"), "serialNumber"));
  const signatureAlgorithm = reader.element(tags.sequence, "signature").bytes;
  const issuer = reader.element(tags.sequence, "issuer").bytes;
  const validity = reader.sequence("validity");
  const notBefore = timeValue(validity.any(), "notBefore");
  const notAfter = timeValue(validity.any(), "notAfter");
  validity.end("validity");
  const subject = reader.element(tags.sequence, "subject").bytes;
  const spki = reader.element(tags.sequence, "subjectPublicKeyInfo").bytes;
  const found = readExtensions(reader.open(0xa3, "extensions"));
  reader.end("tbsCertificate");
  return { serial, signatureAlgorithm, issuer, subject, notBefore, notAfter, spki, extensions: found };
}

/** Octets of the subjectKeyIdentifier (RFC 5280 §4.2.1.2), or null. */
export function subjectKeyId(fields: TbsCertificate): Buffer | null {
  const value = fields.extensions.get(extensions.subjectKeyId)?.value;
  return value === undefined ? null : readElement(value, tags.octetString, "subjectKeyIdentifier");
}

/** keyIdentifier of the authorityKeyIdentifier (RFC 5280 §4.2.1.1), or null. */
export function authorityKeyId(fields: TbsCertificate): Buffer | null {
  const value = fields.extensions.get(extensions.authorityKeyId)?.value;
  return value === undefined ? null : new DerReader(value).sequence("authorityKeyIdentifier").optional(0x80);
}

export interface BasicConstraints {
  readonly ca: boolean;
  readonly pathLength: number | null;
}

/** RFC 5280 §4.2.1.9. */
export function readBasicConstraints(value: Uint8Array): BasicConstraints {
  const reader = new DerReader(readElement(value, tags.sequence, "basicConstraints"));
  const flag = reader.optional(tags.boolean);
  const length = reader.optional(tags.integer);
  reader.end("basicConstraints");
  return {
    ca: flag !== null && booleanValue(flag, "cA"),
    pathLength: length === null ? null : smallInteger(length, "pathLenConstraint"),
  };
}

/** The bits that are set in a KeyUsage (RFC 5280 §4.2.1.3). */
export function readKeyUsage(value: Uint8Array): ReadonlySet<number> {
  const bits = readElement(value, tags.bitString, "keyUsage").subarray(1);
  const set = new Set<number>();
  for (let bit = 0; bit < bits.length * 8; bit += 1) if ((bits[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) set.add(bit);
  return set;
}

function readExtensions(wrapper: DerReader): ReadonlyMap<string, Extension> {
  const list = wrapper.sequence("extensions");
  wrapper.end("extensions");
  if (list.done) throw new DerError("extensions is present and empty");
  const seen = new Set<string>();
  const found = new Map<string, Extension>();
  while (!list.done) {
    const extension = readExtension(list, seen);
    found.set(extension.id, extension);
  }
  return found;
}
