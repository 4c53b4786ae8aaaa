import { sign, type KeyObject } from "node:crypto";
import { bitString, boolean, integer, octetString, oid, sequence, setOf, tlv, utf8String } from "@newleaf/shared/der";
import { spkiOf } from "@newleaf/shared/fingerprint";
import { signatureAlgorithm } from "@newleaf/shared/key-algorithm";

export const attributeTypes = {
  extensionRequest: oid("1.2.840.113549.1.9.14"),
  challengePassword: oid("1.2.840.113549.1.9.7"),
};
export const ecdsaWithSha256 = sequence(oid("1.2.840.10045.4.3.2"));

/** A PKCS#10 request of which every part can be wrong. */
export interface RawRequest {
  readonly key: KeyObject;
  readonly version?: Buffer;
  /** DER Name. */
  readonly subject?: Buffer;
  readonly spki?: Buffer;
  /** DER Attributes; null leaves the field out. */
  readonly attributes?: readonly Buffer[] | null;
  readonly algorithm?: Buffer;
  /** How to sign the CertificationRequestInfo; default the way Newleaf does. */
  readonly signature?: (info: Buffer) => Buffer;
}

export function rawRequest(parts: RawRequest): Buffer {
  const info = sequence(
    parts.version ?? integer(0),
    parts.subject ?? sequence(),
    parts.spki ?? spkiOf(parts.key),
    ...(parts.attributes === null ? [] : [tlv(0xa0, ...(parts.attributes ?? []))]),
  );
  const algorithm = parts.algorithm ?? signatureAlgorithm(parts.key).identifier;
  const signature =
    parts.signature?.(info) ?? sign(parts.key.asymmetricKeyType === "ed25519" ? null : "sha256", info, parts.key);
  return sequence(info, algorithm, bitString(signature));
}

export function nameOf(...commonNames: readonly Buffer[]): Buffer {
  return sequence(...commonNames.map((value) => setOf(sequence(oid("2.5.4.3"), value))));
}

export function commonName(text: string): Buffer {
  return nameOf(utf8String(text));
}

export function attribute(type: Buffer, ...values: readonly Buffer[]): Buffer {
  return sequence(type, tlv(0x31, ...values));
}

/** An extensionRequest attribute holding these Extensions. */
export function extensionRequest(...extensions: readonly Buffer[]): Buffer {
  return attribute(attributeTypes.extensionRequest, sequence(...extensions));
}

export function extension(id: string, value: Uint8Array, critical = false): Buffer {
  return critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));
}

/** A subjectAltName extension of GeneralNames given as tag and contents. */
export function altNames(...names: readonly (readonly [tag: number, content: Uint8Array | string])[]): Buffer {
  return extension("2.5.29.17", sequence(...names.map(([tag, content]) => tlv(tag, Buffer.from(content)))));
}
