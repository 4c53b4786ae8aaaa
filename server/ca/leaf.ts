import type { KeyObject } from "node:crypto";
import {
  asciiBytes,
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  namedBits,
  octetString,
  sequence,
  setOf,
  tags,
  time,
  utf8String,
} from "@newleaf/shared/der";
import { DerReader } from "@newleaf/shared/der-reader";
import { verifyBytes } from "@newleaf/shared/key-algorithm";
import {
  allNames,
  generalNames,
  identicalNames,
  isIdentityId,
  noNames,
  readGeneralNames,
  type Names,
} from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { serialToDer } from "@newleaf/shared/serial-number";
import { readCertificate, type TbsCertificate } from "./certificate.ts";
import type { Issuer } from "./issuer.ts";
import { keyIdentifier } from "./key-identifier.ts";
import { requireClean } from "./lint.ts";
import { encoded, extensions, keyUsageBits } from "./oids.ts";
import type { LeafProfile } from "./profile.ts";

export interface LeafPlan {
  readonly profile: LeafProfile;
  /** Identity id: the subject CN. */
  readonly identity: string;
  /** Canonical, of the inventory; may be none. */
  readonly names: Names;
  readonly publicKey: KeyObject;
  /** DER SubjectPublicKeyInfo of that key. */
  readonly spki: Uint8Array;
  /** From `newSerial`. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly issuer: Issuer;
  /** Base of CRL distribution point and issuer URL. */
  readonly publicUrl: string;
}

declare const linted: unique symbol;

/** What may be signed: every field decided, encoded and linted. Only `prepareLeaf` makes one. */
export interface PreparedLeaf {
  readonly [linted]: true;
  readonly tbs: Buffer;
  readonly issuerId: string;
  readonly identity: string;
  readonly serial: string;
  readonly spki: Uint8Array;
  readonly names: Names;
  /** Milliseconds since the epoch, whole seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

const second = 1000;
const version3 = explicit(0, integer(2));
const digitalSignature = namedBits([keyUsageBits.digitalSignature]);
const digitalSignatureAndKeyEncipherment = namedBits([keyUsageBits.digitalSignature, keyUsageBits.keyEncipherment]);

/**
 * Decides and encodes every field of a leaf (`docs/certificate-profile.md`) and lints the result.
 * @throws AppError `issuer-unavailable` when the issuer expires before the leaf could live, `internal` when the lint finds anything
 */
export function prepareLeaf(plan: LeafPlan): PreparedLeaf {
  const { profile, identity, names, spki, serial, now, issuer } = plan;
  const issuedAt = Math.floor(now / second) * second;
  const notBefore = Math.floor((now - profile.backdate) / second) * second;
  // Both ends belong to the validity period (RFC 5280 §4.1.2.5), so thirty days end one second earlier.
  const notAfter = Math.min(Math.floor((issuedAt + profile.validity) / second) * second - second, issuer.notAfter);
  if (notAfter <= now) {
    throw new AppError(
      "issuer-unavailable",
      `The issuer ${issuer.id} ends at ${new Date(issuer.notAfter).toISOString()}, too soon for any leaf; rotate the CA`,
    );
  }
  const tbs = sequence(
    version3,
    serialToDer(serial),
    issuer.signatureAlgorithm,
    issuer.subject,
    sequence(time(notBefore), time(notAfter)),
    sequence(setOf(sequence(encoded.commonName, utf8String(identity)))),
    spki,
    explicit(3, sequence(...leafExtensions(plan))),
  );
  requireClean({ tbs, profile, identity, names, spki, serial, now, issuer });
  const leaf = { tbs, issuerId: issuer.id, identity, serial, spki, names, notBefore, notAfter };
  return Object.freeze(leaf) as PreparedLeaf;
}

/**
 * Signs a prepared leaf, reads the certificate back and holds it against what was prepared.
 * @returns DER
 * @throws Error on any difference, or when the signature of a signer elsewhere does not hold: the certificate must not be released
 */
export function signLeaf(prepared: PreparedLeaf, issuer: Issuer): Buffer {
  if (prepared.issuerId !== issuer.id)
    throw new Error(`The leaf ${prepared.serial} was prepared for issuer ${prepared.issuerId}, not ${issuer.id}`);
  const signature = issuer.sign(prepared.tbs);
  const der = sequence(prepared.tbs, issuer.signatureAlgorithm, bitString(signature));
  const read = readCertificate(der);
  const same =
    read.tbs.equals(prepared.tbs) &&
    read.serial === prepared.serial &&
    read.spki.equals(prepared.spki) &&
    read.notBefore === prepared.notBefore &&
    read.notAfter === prepared.notAfter &&
    identicalNames(namesOf(read), prepared.names);
  if (!same) throw new Error(`The certificate ${prepared.serial} is not what was prepared; it is not released`);
  // A key in this process was proved when it was opened; verifying each of its signatures would be a third of the cost of issuing.
  if (issuer.recordFirst && !verifyBytes(issuer.publicKey, read.tbs, read.signature)) {
    throw new Error(
      `The signer of issuer ${issuer.id} made a signature that does not hold; ${prepared.serial} is not released`,
    );
  }
  return der;
}

/** The subjectAltName of a certificate; no names when it has none. */
export function leafNames(der: Uint8Array): Names {
  return namesOf(readCertificate(der));
}

/** The identity that a leaf of ours names: its subject is one commonName and nothing else. Null when it is not. */
export function leafIdentity(der: Uint8Array): string | null {
  const { subject } = readCertificate(der);
  const text = commonNameText(subject);
  return text !== null && isIdentityId(text) ? text : null;
}

function commonNameText(subject: Buffer): string | null {
  try {
    const name = new DerReader(subject).sequence("subject");
    const attribute = name.open(tags.set, "RelativeDistinguishedName").sequence("attribute");
    name.end("subject");
    const isCommonName = attribute.any().bytes.equals(encoded.commonName);
    const text = attribute.content(tags.utf8String, "commonName").toString("utf8");
    attribute.end("attribute");
    return isCommonName ? text : null;
  } catch {
    return null;
  }
}

function leafExtensions({ profile, names, publicKey, spki, issuer, publicUrl }: LeafPlan): Buffer[] {
  // RFC 5246 §7.4.2: RSA key transport of TLS 1.2 servers. Never for EC (RFC 8813 §3) and Ed25519 keys (RFC 8410 §5).
  const transport = publicKey.asymmetricKeyType === "rsa" && profile.extendedKeyUsage.includes("serverAuth");
  const { authorityKeyId, crlDistributionPoints, authorityInfoAccess } = issuerExtensions(issuer, publicUrl);
  return [
    authorityKeyId,
    extension(encoded.subjectKeyId, octetString(keyIdentifier(spki))),
    criticalExtension(encoded.keyUsage, transport ? digitalSignatureAndKeyEncipherment : digitalSignature),
    extension(encoded.extendedKeyUsage, sequence(...profile.extendedKeyUsage.map((usage) => encoded[usage]))),
    ...(allNames(names).length === 0 ? [] : [extension(encoded.subjectAltName, generalNames(names))]),
    crlDistributionPoints,
    authorityInfoAccess,
  ];
}

interface IssuerExtensions {
  readonly publicUrl: string;
  readonly authorityKeyId: Buffer;
  readonly crlDistributionPoints: Buffer;
  readonly authorityInfoAccess: Buffer;
}

/** The same in every leaf of an issuer: encoded once. */
const perIssuer = new WeakMap<Issuer, IssuerExtensions>();

function issuerExtensions(issuer: Issuer, publicUrl: string): IssuerExtensions {
  const known = perIssuer.get(issuer);
  if (known?.publicUrl === publicUrl) return known;
  const base = publicUrl.replace(/\/+$/, "");
  const crl = uri(`${base}/crl/${issuer.id}.crl`);
  const access = sequence(encoded.caIssuers, uri(`${base}/issuers/${issuer.id}.crt`));
  const made = {
    publicUrl,
    authorityKeyId: extension(encoded.authorityKeyId, sequence(implicit(0, issuer.keyId))),
    crlDistributionPoints: extension(encoded.crlDistributionPoints, sequence(sequence(explicit(0, explicit(0, crl))))),
    authorityInfoAccess: extension(encoded.authorityInfoAccess, sequence(access)),
  };
  perIssuer.set(issuer, made);
  return made;
}

function extension(id: Buffer, value: Uint8Array): Buffer {
  return sequence(id, octetString(value));
}

function criticalExtension(id: Buffer, value: Uint8Array): Buffer {
  return sequence(id, boolean(true), octetString(value));
}

/** uniformResourceIdentifier of a GeneralName. */
function uri(text: string): Buffer {
  return implicit(6, asciiBytes(text));
}

function namesOf(fields: TbsCertificate): Names {
  const value = fields.extensions.get(extensions.subjectAltName)?.value;
  return value === undefined ? noNames : readGeneralNames(value);
}
