import type { KeyObject } from "node:crypto";
import { bitString, explicit, integer, octetString, oid, sequence, setOf, tlv, utf8String } from "./der.ts";
import { spkiOf } from "./fingerprint.ts";
import { signatureAlgorithm, signBytes } from "./key-algorithm.ts";
import { allNames, generalNames, normaliseNames, type Names } from "./names.ts";

const commonNameType = oid("2.5.4.3");
const extensionRequest = oid("1.2.840.113549.1.9.14");
const subjectAltName = oid("2.5.29.17");
/** RFC 5280 appendix A: ub-common-name. */
const maxCommonName = 64;

export interface CsrRequest {
  /** Private key, which signs: proof of possession. */
  readonly key: KeyObject;
  readonly commonName?: string;
  readonly names?: Names;
}

/**
 * A PKCS#10 request (RFC 2986), DER: version 0, at most one extensionRequest, holding only a subjectAltName.
 * @throws AppError `request-invalid` (a malformed name), Error (a kind of key that Newleaf does not use, a CN over 64 characters)
 */
export function createCsr({ key, commonName, names }: CsrRequest): Buffer {
  if (commonName !== undefined && (commonName === "" || commonName.length > maxCommonName)) {
    throw new Error(`A common name has 1 to ${maxCommonName} characters`);
  }
  const subject =
    commonName === undefined ? sequence() : sequence(setOf(sequence(commonNameType, utf8String(commonName))));
  const info = sequence(integer(0), subject, spkiOf(key), attributes(names));
  return sequence(info, signatureAlgorithm(key).identifier, bitString(signBytes(key, info)));
}

/** `[0] IMPLICIT SET OF Attribute`, present also when empty (RFC 2986 §4.1). */
function attributes(names: Names | undefined): Buffer {
  if (names === undefined || allNames(names).length === 0) return explicit(0, Buffer.alloc(0));
  const extension = sequence(subjectAltName, octetString(generalNames(normaliseNames(names))));
  return tlv(0xa0, sequence(extensionRequest, setOf(sequence(extension))));
}
