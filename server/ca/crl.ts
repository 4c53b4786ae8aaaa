import { crlOids, reasonNames } from "@newleaf/shared/crl";
import {
  bitString,
  enumerated,
  explicit,
  implicit,
  integer,
  octetString,
  oid,
  sequence,
  tags,
  time,
} from "@newleaf/shared/der";
import { verifyBytes } from "@newleaf/shared/key-algorithm";
import { serialToDer } from "@newleaf/shared/serial-number";
import type { RevocationReason } from "../store/revocations.ts";
import type { Issuer } from "./issuer.ts";

export interface CrlEntry {
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly revokedAt: number;
  readonly reason: RevocationReason;
}

export interface CrlContents {
  readonly issuer: Issuer;
  /** Strictly rising for an issuer (RFC 5280 §5.2.3). */
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Entries, or the concatenated outputs of `encodeRevoked`. */
  readonly revoked: readonly CrlEntry[] | Uint8Array;
}

/** v2, as INTEGER 1. */
const version = integer(1);
const authorityKeyIdentifier = oid(crlOids.authorityKeyId);
const cRLNumber = oid(crlOids.crlNumber);

/**
 * A complete, signed v2 CRL in DER (RFC 5280 §5): authority key identifier and number, nextUpdate, no issuing distribution
 * point; revokedCertificates and entry extensions absent where they would be empty (§5.1.2.6).
 * @throws Error when the signature does not hold, or for a number or dates that no CRL has
 */
export function buildCrl({ issuer, number, thisUpdate, nextUpdate, revoked }: CrlContents): Buffer {
  if (!(nextUpdate > thisUpdate)) throw new Error("A CRL's nextUpdate lies after its thisUpdate");
  const entries = revoked instanceof Uint8Array ? revoked : encodeRevoked(revoked);
  const tbs = sequence(
    version,
    issuer.signatureAlgorithm,
    issuer.subject,
    time(thisUpdate),
    time(nextUpdate),
    ...(entries.length === 0 ? [] : [sequence(entries)]),
    explicit(
      0,
      sequence(
        sequence(authorityKeyIdentifier, octetString(sequence(implicit(0, issuer.keyId)))),
        sequence(cRLNumber, octetString(integer(number))),
      ),
    ),
  );
  const signature = issuer.sign(tbs);
  // A CRL that does not verify makes every relying party refuse everyone: keep the old one instead.
  if (!verifyBytes(issuer.publicKey, tbs, signature)) {
    throw new Error(`The signer of issuer ${issuer.id} made a signature that does not hold; the CRL was not made`);
  }
  return sequence(tbs, issuer.signatureAlgorithm, bitString(signature));
}

/** DER of the entries one after the other, without the SEQUENCE around them, so that a long list can be made in pieces. */
export function encodeRevoked(entries: readonly CrlEntry[]): Buffer {
  const out = Buffer.allocUnsafe(entries.length * maxEntry);
  const times = new Map<number, Buffer>();
  let at = 0;
  for (const { serial, revokedAt, reason } of entries) {
    const second = Math.floor(revokedAt / 1000);
    let date = times.get(second);
    if (date === undefined) times.set(second, (date = time(revokedAt)));
    const number = serialToDer(serial);
    const extensions = reasonExtensions[reason];
    out[at] = tags.sequence;
    out[at + 1] = number.length + date.length + extensions.length;
    out.set(number, at + 2);
    out.set(date, at + 2 + number.length);
    out.set(extensions, at + 2 + number.length + date.length);
    at += 2 + number.length + date.length + extensions.length;
  }
  return out.subarray(0, at);
}

/** crlEntryExtensions of each reason, as whole element; nothing for unspecified, which is omitted (RFC 5280 §5.3.1). */
const reasonExtensions: Readonly<Record<RevocationReason, Buffer>> = {
  unspecified: Buffer.alloc(0),
  keyCompromise: reasonExtension("keyCompromise"),
  cACompromise: reasonExtension("cACompromise"),
  affiliationChanged: reasonExtension("affiliationChanged"),
  superseded: reasonExtension("superseded"),
  cessationOfOperation: reasonExtension("cessationOfOperation"),
  certificateHold: reasonExtension("certificateHold"),
  privilegeWithdrawn: reasonExtension("privilegeWithdrawn"),
};

/** Header 2, serial 2 + 21, GeneralizedTime 17, reason 14: always a length of one octet. */
const maxEntry = 56;

function reasonExtension(reason: RevocationReason): Buffer {
  const code = Object.entries(reasonNames).find(([, name]) => name === reason)?.[0];
  if (code === undefined) throw new Error(`${reason} has no code`);
  return sequence(sequence(oid(crlOids.reasonCode), octetString(enumerated(Number(code)))));
}
