/**
 * Writes DER (ITU-T X.690 §8, §10, §11), and cannot write BER. Only what certificates, requests and CRLs need: one-octet
 * tags, definite lengths. `der-reader.ts` is the other half.
 */

/** The bytes are not the DER that was expected. `message` says where it fails; callers map it to a problem code. */
export class DerError extends Error {
  override readonly name = "DerError";
}

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** First moment that needs GeneralizedTime (RFC 5280 §4.1.2.5). */
const generalizedFrom = Date.UTC(2050, 0, 1);
const utcFrom = Date.UTC(1950, 0, 1);
const generalizedUntil = Date.UTC(10_000, 0, 1);

/** Tag, minimal length and the parts as contents. */
export function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const lengthOctets = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x1_00_00 ? 2 : length < 0x1_00_00_00 ? 3 : 4;
  const out = Buffer.allocUnsafe(2 + lengthOctets + length);
  out[0] = tag;
  if (lengthOctets === 0) out[1] = length;
  else {
    out[1] = 0x80 | lengthOctets;
    out.writeUIntBE(length, 2, lengthOctets);
  }
  let at = 2 + lengthOctets;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tlv(tags.sequence, ...parts);
}

/** SET OF: elements in the ascending order of their encodings (X.690 §11.6). */
export function setOf(...parts: readonly Uint8Array[]): Buffer {
  return tlv(tags.set, ...parts.toSorted((a, b) => Buffer.compare(a, b)));
}

/** A non-negative INTEGER, minimal. Bytes are big-endian and unsigned. */
export function integer(value: number | bigint | Uint8Array): Buffer {
  return tlv(tags.integer, unsignedContent(value));
}

export function enumerated(value: number): Buffer {
  return tlv(tags.enumerated, unsignedContent(value));
}

/** From dotted text: `2.5.29.15`. */
export function oid(dotted: string): Buffer {
  const arcs = dotted.split(".").map(Number);
  const [first, second, ...rest] = arcs;
  const fits = first !== undefined && second !== undefined && first <= 2 && (first === 2 || second < 40);
  if (!fits || arcs.some((arc) => !Number.isSafeInteger(arc) || arc < 0))
    throw new DerError(`${dotted} is not an object identifier`);
  return tlv(tags.oid, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

export function octetString(content: Uint8Array): Buffer {
  return tlv(tags.octetString, content);
}

const noUnusedBits = Buffer.from([0]);

/** A BIT STRING of whole octets. */
export function bitString(content: Uint8Array): Buffer {
  return tlv(tags.bitString, noUnusedBits, content);
}

/** A named bit list, trailing zero bits removed (X.690 §11.2.2): `[0, 5]` sets bits 0 and 5. */
export function namedBits(bits: readonly number[]): Buffer {
  const highest = Math.max(-1, ...bits);
  const content = Buffer.alloc((highest >> 3) + 1);
  for (const bit of bits) content[bit >> 3] = (content[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return tlv(tags.bitString, Buffer.from([highest < 0 ? 0 : 7 - (highest & 7)]), content);
}

export function utf8String(text: string): Buffer {
  return tlv(tags.utf8String, Buffer.from(text, "utf8"));
}

const printable = /^[A-Za-z0-9 '()+,\-./:=?]*$/;

export function printableString(text: string): Buffer {
  if (!printable.test(text)) throw new DerError("A character does not belong in a PrintableString");
  return tlv(tags.printableString, Buffer.from(text, "latin1"));
}

export function ia5String(text: string): Buffer {
  return tlv(tags.ia5String, asciiBytes(text));
}

/** ASCII octets of a string; refuses anything else, so nothing is silently cut to Latin-1. */
export function asciiBytes(text: string): Buffer {
  for (let at = 0; at < text.length; at += 1) {
    if (text.charCodeAt(at) > 0x7f) throw new DerError("A character is not ASCII");
  }
  return Buffer.from(text, "latin1");
}

export function boolean(value: boolean): Buffer {
  return Buffer.from([tags.boolean, 1, value ? 0xff : 0]);
}

export function nullValue(): Buffer {
  return Buffer.from([tags.null, 0]);
}

/** `[n] EXPLICIT`: wraps a whole element. */
export function explicit(number: number, element: Uint8Array): Buffer {
  return tlv(0xa0 | number, element);
}

/** `[n] IMPLICIT` of a primitive type: replaces its tag. */
export function implicit(number: number, content: Uint8Array): Buffer {
  return tlv(0x80 | number, content);
}

/**
 * Time (RFC 5280 §4.1.2.5): UTCTime through 2049, GeneralizedTime from 2050, in `Z`, whole seconds (cut, not rounded).
 * @param at milliseconds since the epoch
 */
export function time(at: number): Buffer {
  if (!(at >= utcFrom && at < generalizedUntil)) throw new DerError(`${at} ms is outside the years 1950 to 9999`);
  const moment = new Date(at);
  const year = moment.getUTCFullYear();
  const isUtc = at < generalizedFrom;
  const parts = [
    ...(isUtc ? [] : [Math.floor(year / 100)]),
    year % 100,
    moment.getUTCMonth() + 1,
    moment.getUTCDate(),
    moment.getUTCHours(),
    moment.getUTCMinutes(),
    moment.getUTCSeconds(),
  ];
  const out = Buffer.allocUnsafe(2 + parts.length * 2 + 1);
  out[0] = isUtc ? tags.utcTime : tags.generalizedTime;
  out[1] = out.length - 2;
  for (const [index, part] of parts.entries()) {
    out[2 + index * 2] = 0x30 + Math.floor(part / 10);
    out[3 + index * 2] = 0x30 + (part % 10);
  }
  out[out.length - 1] = 0x5a;
  return out;
}

function unsignedContent(value: number | bigint | Uint8Array): Uint8Array {
  if (typeof value !== "object") {
    if (value < 0 || (typeof value === "number" && !Number.isSafeInteger(value)))
      throw new DerError("Not a whole non-negative number");
    const hex = value.toString(16);
    return unsignedContent(Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, "hex"));
  }
  let start = 0;
  while (start < value.length - 1 && value[start] === 0) start += 1;
  const minimal = value.subarray(start);
  const first = minimal[0] ?? 0;
  return minimal.length === 0 || first >= 0x80 ? Buffer.concat([noUnusedBits, minimal]) : minimal;
}

function base128(arc: number): number[] {
  const octets = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) octets.unshift((rest % 128) | 0x80);
  return octets;
}
