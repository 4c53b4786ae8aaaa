import { createPublicKey, verify, type KeyObject } from "node:crypto";
import { bitStringOctets, DerReader, oidText, requireDer, smallInteger } from "@newleaf/shared/der-reader";
import { DerError, tags } from "@newleaf/shared/der";
import { readExtension } from "@newleaf/shared/extension";
import { fingerprint } from "@newleaf/shared/fingerprint";
import type { KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import { noNames, readGeneralNames, type Names } from "@newleaf/shared/names";
import { decodeBase64, pemDecode, pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { readBasicConstraints, readKeyUsage } from "./certificate.ts";
import { signatureHash } from "./csr-signature.ts";
import { commonName as commonNameType, extensions, keyUsageBits } from "./oids.ts";
import { acceptKey } from "./subject-key.ts";

/** A PKCS#10 request whose signature holds and whose key is acceptable. It asks; it decides nothing. */
export interface ParsedCsr {
  readonly der: Buffer;
  /** DER SubjectPublicKeyInfo, in the one encoding its key has. */
  readonly spki: Buffer;
  /** SPKI fingerprint. */
  readonly key: string;
  readonly publicKey: KeyObject;
  readonly algorithm: KeyAlgorithm;
  readonly commonName: string | null;
  /** Of the subjectAltName, canonical. */
  readonly names: Names;
}

const maxDer = 65_536;
/** Base64 of that, line ends and some text around it. */
const maxText = 98_304;
/** RFC 5280 appendix A: ub-common-name. */
const maxCommonName = 64;
/** Extension requests: PKCS#9's (RFC 2985 §5.4.2) and the one that older Windows tools write. */
const extensionRequests = new Set(["1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"]);
/** The extensions that a request may mark critical, because they are understood here. */
const understood = new Set<string>([
  extensions.subjectAltName,
  extensions.keyUsage,
  extensions.extendedKeyUsage,
  extensions.basicConstraints,
  extensions.subjectKeyId,
]);

/**
 * Reads a certificate request (RFC 2986): PEM, base64 of DER with any white space, or DER. Only the key, the CN and the SAN
 * are taken from it. Strict: one encoding, one extensionRequest, one CN, every name well-formed; a request to become a CA
 * is not one that can be answered.
 * @throws AppError `csr-malformed`, `request-too-large`, `key-not-acceptable` (before the signature is looked at),
 * `csr-signature-invalid`
 */
export function readCsr(input: string | Uint8Array): ParsedCsr {
  try {
    return parse(toDer(input));
  } catch (error) {
    if (error instanceof DerError) throw malformed(error.message, error);
    if (error instanceof AppError && error.code === "request-invalid") throw malformed(error.message, error);
    throw error;
  }
}

function parse(der: Buffer): ParsedCsr {
  requireDer(der, "CertificationRequest");
  const request = new DerReader(der).sequence("CertificationRequest");
  const info = request.element(tags.sequence, "certificationRequestInfo");
  const algorithmId = request.element(tags.sequence, "signatureAlgorithm").bytes;
  const signature = bitStringOctets(request.content(tags.bitString, "signature"), "signature");
  request.end("CertificationRequest");

  const fields = new DerReader(info.content);
  if (smallInteger(fields.content(tags.integer, "version"), "version") !== 0)
    throw new DerError("the version is not 0 (RFC 2986 §4.1)");
  const commonName = readCommonName(fields.sequence("subject"));
  const spki = fields.element(tags.sequence, "subjectPKInfo").bytes;
  const names = readAttributes(fields.open(0xa0, "attributes"));
  fields.end("certificationRequestInfo");

  const algorithm = acceptKey(spki);
  const hash = signatureHash(algorithmId, algorithm);
  const publicKey = openKey(spki, algorithm);
  if (!verify(hash, info.bytes, publicKey, signature)) {
    throw new AppError(
      "csr-signature-invalid",
      "The request is not signed by the key it contains, or was changed since; make it again",
    );
  }
  return { der, spki, key: fingerprint(spki), publicKey, algorithm, commonName, names };
}

function toDer(input: string | Uint8Array): Buffer {
  if (input.length > maxText) throw tooLarge();
  if (typeof input !== "string" && input[0] === tags.sequence) {
    if (input.length > maxDer) throw tooLarge();
    return Buffer.from(input);
  }
  const text = typeof input === "string" ? input : Buffer.from(input).toString("latin1");
  const der = text.includes("-----BEGIN ") ? onlyBlock(text) : decodeBase64(text, "CERTIFICATE REQUEST");
  if (der.length > maxDer) throw tooLarge();
  return der;
}

function onlyBlock(text: string): Buffer {
  const [der, another] = pemDecode(text, "CERTIFICATE REQUEST");
  if (der === undefined) throw malformed("the PEM text holds no CERTIFICATE REQUEST");
  if (another !== undefined) throw malformed("the PEM text holds more than one request");
  return der;
}

/** The CN, if there is one; the rest of the subject is ignored, because the inventory decides. */
function readCommonName(subject: DerReader): string | null {
  let found: string | null = null;
  while (!subject.done) {
    const set = subject.open(tags.set, "RelativeDistinguishedName");
    if (set.done) throw new DerError("an empty RelativeDistinguishedName");
    while (!set.done) {
      const attribute = set.sequence("AttributeTypeAndValue");
      const type = oidText(attribute.content(tags.oid, "attribute type"));
      const value = attribute.any();
      attribute.end("AttributeTypeAndValue");
      if (type !== commonNameType) continue;
      if (found !== null) throw new DerError("more than one common name");
      found = readText(value.tag, value.content);
    }
  }
  return found;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** C0 and C1 control characters, DEL, and what turns or hides text when it is shown to whoever approves. */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

function readText(tag: number, content: Buffer): string {
  if (tag !== tags.utf8String && tag !== tags.printableString && tag !== tags.ia5String) {
    throw new DerError("the common name is neither UTF8String nor PrintableString");
  }
  let text: string;
  try {
    text = utf8.decode(content);
  } catch (cause) {
    throw malformed("the common name is not UTF-8", cause);
  }
  if (text === "" || text.length > maxCommonName)
    throw new DerError(`the common name must have 1 to ${maxCommonName} characters`);
  if (unprintable.test(text)) throw new DerError("the common name contains a control character");
  return text;
}

function readAttributes(attributes: DerReader): Names {
  let names: Names | null = null;
  while (!attributes.done) {
    const attribute = attributes.sequence("Attribute");
    const type = oidText(attribute.content(tags.oid, "attribute type"));
    const values = attribute.open(tags.set, "attribute values");
    attribute.end("Attribute");
    if (!extensionRequests.has(type)) continue;
    if (names !== null) throw new DerError("more than one extensionRequest");
    names = readExtensions(values.sequence("Extensions"));
    values.end("extensionRequest");
  }
  return names ?? noNames;
}

function readExtensions(list: DerReader): Names {
  if (list.done) throw new DerError("the extensionRequest is empty");
  const seen = new Set<string>();
  let names = noNames;
  while (!list.done) {
    const { id, critical, value } = readExtension(list, seen);
    if (id === extensions.subjectAltName) names = readAltNames(value);
    else if (id === extensions.basicConstraints) refuseCa(readBasicConstraints(value).ca);
    else if (id === extensions.keyUsage) {
      requireDer(value, "keyUsage");
      const bits = readKeyUsage(value);
      refuseCa(bits.has(keyUsageBits.keyCertSign) || bits.has(keyUsageBits.cRLSign));
    } else if (critical && !understood.has(id)) throw new DerError(`the critical extension ${id} is not known here`);
  }
  return names;
}

function readAltNames(value: Buffer): Names {
  requireDer(value, "subjectAltName");
  return readGeneralNames(value);
}

/** Refused rather than ignored: whoever asks for this expects another certificate than the one that would come. */
function refuseCa(asked: boolean): void {
  if (asked) throw new DerError("it asks for a CA certificate, which is never issued on request");
}

function openKey(spki: Buffer, algorithm: KeyAlgorithm): KeyObject {
  try {
    // As PEM, because given DER in an object Node 24 makes and drops two exceptions for every key, at 20 µs.
    return createPublicKey(pemEncode("PUBLIC KEY", spki));
  } catch (cause) {
    throw new AppError("key-not-acceptable", `The public key is not a valid ${algorithm} key`, { cause });
  }
}

function malformed(why: string, cause?: unknown): AppError {
  return new AppError("csr-malformed", `The certificate request cannot be read: ${why}`, { cause });
}

function tooLarge(): AppError {
  return new AppError("request-too-large", `A certificate request may have ${maxDer} octets`);
}
