import { verify, type KeyObject } from "node:crypto";
import { bitStringOctets, DerReader, smallInteger, timeValue, unsigned } from "./der-reader.ts";
import { DerError, tags } from "./der.ts";
import { readExtension } from "./extension.ts";
import { signatureAlgorithm } from "./key-algorithm.ts";
import { serialFromBytes } from "./serial-number.ts";

export const crlOids = {
  authorityKeyId: "2.5.29.35",
  crlNumber: "2.5.29.20",
  reasonCode: "2.5.29.21",
  invalidityDate: "2.5.29.24",
} as const;

/** CRLReason (RFC 5280 §5.3.1); 7 is unused, 8 belongs to delta CRLs only. */
export const reasonNames: Readonly<Record<number, string>> = {
  0: "unspecified",
  1: "keyCompromise",
  2: "cACompromise",
  3: "affiliationChanged",
  4: "superseded",
  5: "cessationOfOperation",
  6: "certificateHold",
  9: "privilegeWithdrawn",
  10: "aACompromise",
};

export interface RevokedEntry {
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly revokedAt: number;
  /** Null when the entry names none. */
  readonly reason: string | null;
}

export interface Crl {
  /** DER Name, byte for byte. */
  readonly issuerName: Buffer;
  readonly authorityKeyId: Buffer | null;
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly revoked: readonly RevokedEntry[];
  /** Whether this key signed it, with the algorithm that Newleaf uses for such a key. */
  verify(publicKey: KeyObject): boolean;
}

/**
 * Reads a complete v2 CRL (RFC 5280 §5) as Newleaf and other careful CAs write it: with nextUpdate and CRL number, without
 * critical extensions (a delta or partitioned CRL is none that may stand for a whole one).
 * @throws DerError
 */
export function readCrl(der: Uint8Array): Crl {
  const outer = new DerReader(der);
  const crl = outer.sequence("CertificateList");
  outer.end("CertificateList");
  const tbs = crl.element(tags.sequence, "tbsCertList");
  const algorithm = crl.element(tags.sequence, "signatureAlgorithm").bytes;
  const signature = bitStringOctets(crl.content(tags.bitString, "signature"), "signature");
  crl.end("CertificateList");

  const fields = new DerReader(tbs.content);
  if (smallInteger(fields.content(tags.integer, "version"), "version") !== 1)
    throw new DerError("The CRL is not of version 2");
  const inner = fields.element(tags.sequence, "signature").bytes;
  if (!inner.equals(algorithm)) throw new DerError("The CRL names two different signature algorithms");
  const issuerName = fields.element(tags.sequence, "issuer").bytes;
  const thisUpdate = timeValue(fields.any(), "thisUpdate");
  if (fields.nextTag !== tags.utcTime && fields.nextTag !== tags.generalizedTime)
    throw new DerError("The CRL has no nextUpdate");
  const nextUpdate = timeValue(fields.any(), "nextUpdate");
  const revoked = readRevoked(fields.optional(tags.sequence));
  const { authorityKeyId, number } = readExtensions(fields.open(0xa0, "crlExtensions"));
  fields.end("tbsCertList");
  return {
    issuerName,
    authorityKeyId,
    number,
    thisUpdate,
    nextUpdate,
    revoked,
    verify(publicKey) {
      const expected = signatureAlgorithm(publicKey);
      return expected.identifier.equals(algorithm) && verify(expected.hash, tbs.bytes, publicKey, signature);
    },
  };
}

function readExtensions(wrapper: DerReader): { readonly authorityKeyId: Buffer | null; readonly number: number } {
  const list = wrapper.sequence("crlExtensions");
  wrapper.end("crlExtensions");
  let authorityKeyId: Buffer | null = null;
  let number: number | null = null;
  const seen = new Set<string>();
  while (!list.done) {
    const { id, critical, value } = readExtension(list, seen);
    if (id === crlOids.authorityKeyId)
      authorityKeyId = new DerReader(value).sequence("authorityKeyIdentifier").optional(0x80);
    else if (id === crlOids.crlNumber)
      number = smallInteger(new DerReader(value).content(tags.integer, "cRLNumber"), "cRLNumber");
    else if (critical) throw new DerError(`The CRL has a critical extension that is not known here: ${id}`);
  }
  if (number === null) throw new DerError("The CRL has no number");
  return { authorityKeyId, number };
}

function readRevoked(content: Buffer | null): RevokedEntry[] {
  if (content === null) return [];
  if (content.length === 0) throw new DerError("revokedCertificates is present and empty");
  const list = new DerReader(content);
  const revoked: RevokedEntry[] = [];
  const times = new Map<string, number>();
  while (!list.done) {
    const entry = list.sequence("revokedCertificate");
    const serial = serialFromBytes(unsigned(entry.content(tags.integer, "userCertificate"), "userCertificate"));
    const date = entry.any();
    // Many entries share a date, and reading one costs more than everything else here.
    const spelling = `${date.tag}:${date.content.toString("latin1")}`;
    const revokedAt = times.get(spelling) ?? timeValue(date, "revocationDate");
    times.set(spelling, revokedAt);
    revoked.push({ serial, revokedAt, reason: entry.done ? null : readReason(entry) });
  }
  return revoked;
}

/** `extnID reasonCode, extnValue ENUMERATED`, as almost every entry has it. */
const plainReason = Buffer.from("300c300a0603551d1504030a01", "hex");

function readReason(entry: DerReader): string | null {
  const element = entry.element(tags.sequence, "crlEntryExtensions");
  entry.end("revokedCertificate");
  const plain =
    element.bytes.length === plainReason.length + 1 &&
    element.bytes.subarray(0, plainReason.length).equals(plainReason);
  if (plain) return reasonName(element.bytes.at(-1) ?? 0);
  const list = new DerReader(element.content);
  if (list.done) throw new DerError("crlEntryExtensions is present and empty");
  const seen = new Set<string>();
  let reason: string | null = null;
  while (!list.done) {
    const { id, critical, value } = readExtension(list, seen);
    if (id === crlOids.reasonCode)
      reason = reasonName(smallInteger(new DerReader(value).content(tags.enumerated, "reasonCode"), "reasonCode"));
    else if (critical) throw new DerError(`A CRL entry has a critical extension that is not known here: ${id}`);
  }
  return reason;
}

function reasonName(code: number): string {
  const name = reasonNames[code];
  if (name === undefined) throw new DerError(`${code} is not a reason in a complete CRL`);
  return name;
}
