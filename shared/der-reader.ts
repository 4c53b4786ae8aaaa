/**
 * Reads DER (ITU-T X.690 §8, §10, §11) and refuses BER: indefinite and padded lengths, padded integers, trailing octets.
 * Only what certificates, requests and CRLs need: one-octet tags.
 */
import { DerError, tags } from "./der.ts";

const maxDepth = 24;
const constructedBit = 0x20;
const firstGeneralizedYear = 2050;

export interface DerElement {
  readonly tag: number;
  /** The contents, a view. */
  readonly content: Buffer;
  /** Tag, length and contents, a view. */
  readonly bytes: Buffer;
}

/** Reads elements one after the other; every method throws DerError when the bytes are not what it was asked for. */
export class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** Tag of the next element, or null at the end. */
  get nextTag(): number | null {
    return this.#bytes[this.#at] ?? null;
  }

  /** The next element, whatever it is. */
  any(): DerElement {
    const bytes = this.#bytes;
    const start = this.#at;
    const header = readHeader(bytes, start);
    this.#at = header.end;
    return {
      tag: header.tag,
      content: bytes.subarray(header.contentStart, header.end),
      bytes: bytes.subarray(start, header.end),
    };
  }

  /** The next element, which must have this tag. `what` names it in the error. */
  element(tag: number, what: string): DerElement {
    if (this.nextTag !== tag) throw unexpected(tag, this.nextTag, what);
    return this.any();
  }

  /** Contents of the next element, which must have this tag. */
  content(tag: number, what: string): Buffer {
    if (this.nextTag !== tag) throw unexpected(tag, this.nextTag, what);
    const header = readHeader(this.#bytes, this.#at);
    this.#at = header.end;
    return this.#bytes.subarray(header.contentStart, header.end);
  }

  /** Contents of the next element if it has this tag. */
  optional(tag: number): Buffer | null {
    return this.nextTag === tag ? this.content(tag, "") : null;
  }

  /** A reader over the contents of the next element. */
  open(tag: number, what: string): DerReader {
    return new DerReader(this.content(tag, what));
  }

  sequence(what: string): DerReader {
    return this.open(tags.sequence, what);
  }

  /** Nothing may follow. */
  end(what: string): void {
    if (!this.done) throw new DerError(`${what}: ${this.#bytes.length - this.#at} octets too many`);
  }
}

/** The one element that these bytes are; nothing may follow it. */
export function readElement(bytes: Uint8Array, tag: number, what: string): Buffer {
  const reader = new DerReader(bytes);
  const content = reader.content(tag, what);
  reader.end(what);
  return content;
}

/**
 * Walks the whole tree: lengths minimal and in bounds, universal types primitive or constructed as DER demands, BOOLEAN,
 * INTEGER, NULL and BIT STRING in their one form, depth limited. The order of SET OF is not judged.
 * @throws DerError
 */
export function requireDer(bytes: Uint8Array, what: string): void {
  const end = walk(bytes, 0, bytes.length, 0);
  if (end !== bytes.length) throw new DerError(`${what}: ${bytes.length - end} octets too many`);
}

/** Contents of a non-negative INTEGER without the sign octet. */
export function unsigned(content: Buffer, what: string): Buffer {
  requireInteger(content, 0, content.length);
  if ((content[0] ?? 0) >= 0x80) throw new DerError(`${what}: negative`);
  return content.length > 1 && content[0] === 0 ? content.subarray(1) : content;
}

/** A small non-negative INTEGER as a number. */
export function smallInteger(content: Buffer, what: string): number {
  const bytes = unsigned(content, what);
  const value = bytes.length > 7 ? Number.NaN : Number.parseInt(bytes.toString("hex"), 16);
  if (!Number.isSafeInteger(value)) throw new DerError(`${what}: too large`);
  return value;
}

/** Octets of a BIT STRING that has no unused bits. */
export function bitStringOctets(content: Buffer, what: string): Buffer {
  if (content.length === 0 || content[0] !== 0) throw new DerError(`${what}: not a BIT STRING of whole octets`);
  return content.subarray(1);
}

export function booleanValue(content: Buffer, what: string): boolean {
  if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff))
    throw new DerError(`${what}: not a DER BOOLEAN`);
  return content[0] === 0xff;
}

/** Dotted text of an OBJECT IDENTIFIER's contents. */
export function oidText(content: Buffer): string {
  const last = content.at(-1);
  if (last === undefined || last >= 0x80) throw new DerError("Object identifier: cut short");
  let text = "";
  let arc = 0;
  let fresh = true;
  for (let at = 0; at < content.length; at += 1) {
    const octet = content[at] ?? 0;
    if (fresh && octet === 0x80) throw new DerError("Object identifier: padded");
    arc = arc * 128 + (octet & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER) throw new DerError("Object identifier: arc too large");
    fresh = octet < 0x80;
    if (!fresh) continue;
    // The first two arcs share an octet (X.690 §8.19.4).
    const top = Math.min(2, Math.floor(arc / 40));
    text = text === "" ? `${top}.${arc - 40 * top}` : `${text}.${arc}`;
    arc = 0;
  }
  return text;
}

/** Digits of a time of each type: `YYMMDDHHMMSSZ`, `YYYYMMDDHHMMSSZ`. */
const utcLength = 13;
const generalizedLength = 15;
const zulu = 0x5a;

/**
 * Milliseconds since the epoch of a Time in the form RFC 5280 §4.1.2.5 demands, the choice of type by year included.
 * @throws DerError
 */
export function timeValue(element: Pick<DerElement, "tag" | "content">, what: string): number {
  const { tag, content } = element;
  const isUtc = tag === tags.utcTime && content.length === utcLength;
  const isGeneralized = tag === tags.generalizedTime && content.length === generalizedLength;
  if ((!isUtc && !isGeneralized) || content.at(-1) !== zulu)
    throw new DerError(`${what}: not a time as RFC 5280 writes it`);
  const start = content.length - utcLength;
  const short = twoDigits(content, start);
  const year = isUtc ? short + (short >= 50 ? 1900 : 2000) : twoDigits(content, 0) * 100 + short;
  const month = twoDigits(content, start + 2);
  const day = twoDigits(content, start + 4);
  const hour = twoDigits(content, start + 6);
  const minute = twoDigits(content, start + 8);
  const second = twoDigits(content, start + 10);
  const at = Date.UTC(year, month - 1, day, hour, minute, second);
  const inRange = month >= 1 && month <= 12 && day >= 1 && hour < 24 && minute < 60 && second < 60;
  // A day that its month does not have rolls over into the next.
  const sameDay = new Date(at).getUTCDate() === day;
  const rightType = isUtc || year >= firstGeneralizedYear;
  if (!inRange || !sameDay || !rightType) throw new DerError(`${what}: not a time as RFC 5280 writes it`);
  return at;
}

/** Not a number (which no comparison holds for) when one of the octets is no digit. */
function twoDigits(content: Buffer, at: number): number {
  const tens = (content[at] ?? 0) - 0x30;
  const ones = (content[at + 1] ?? 0) - 0x30;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : Number.NaN;
}

interface Header {
  readonly tag: number;
  readonly contentStart: number;
  readonly end: number;
}

function readHeader(bytes: Uint8Array, at: number, limit: number = bytes.length): Header {
  const tag = bytes[at];
  const first = bytes[at + 1];
  if (tag === undefined || first === undefined || at + 2 > limit) throw new DerError("Cut short");
  if ((tag & 0x1f) === 0x1f) throw new DerError("Tags of more than one octet are not used here");
  let length = first;
  let contentStart = at + 2;
  if (first >= 0x80) {
    const octets = first & 0x7f;
    if (octets === 0) throw new DerError("Indefinite length: BER, not DER");
    if (octets > 4 || contentStart + octets > limit) throw new DerError("Length out of bounds");
    length = 0;
    for (let i = 0; i < octets; i += 1) length = length * 256 + (bytes[contentStart + i] ?? 0);
    if (length < 0x80 || length < 256 ** (octets - 1)) throw new DerError("Length not minimal: BER, not DER");
    contentStart += octets;
  }
  const end = contentStart + length;
  if (end > limit) throw new DerError("Length out of bounds");
  return { tag, contentStart, end };
}

function walk(bytes: Uint8Array, at: number, limit: number, depth: number): number {
  if (depth > maxDepth) throw new DerError(`Nested deeper than ${maxDepth}`);
  const { tag, contentStart, end } = readHeader(bytes, at, limit);
  const constructed = (tag & constructedBit) !== 0;
  if ((tag & 0xc0) === 0) {
    const isContainer = (tag | constructedBit) === tags.sequence || (tag | constructedBit) === tags.set;
    if (tag === 0 || constructed !== isContainer) throw new DerError(`Tag ${describeTag(tag)} is not DER here`);
    if (!constructed) requireUniversal(tag, bytes, contentStart, end);
  }
  if (constructed) for (let inner = contentStart; inner < end;) inner = walk(bytes, inner, end, depth + 1);
  return end;
}

/** The one form DER has for a primitive type, over offsets: this runs for every element of every request. */
function requireUniversal(tag: number, bytes: Uint8Array, start: number, end: number): void {
  const length = end - start;
  const first = bytes[start] ?? 0;
  const last = bytes[end - 1] ?? 0;
  if (tag === tags.integer || tag === tags.enumerated) requireInteger(bytes, start, end);
  else if (tag === tags.boolean) {
    if (length !== 1 || (first !== 0 && first !== 0xff)) throw new DerError("BOOLEAN: not a DER BOOLEAN");
  } else if (tag === tags.null) {
    if (length > 0) throw new DerError("NULL with contents");
  } else if (tag === tags.bitString) {
    const fits = length > 0 && first < 8 && (length > 1 || first === 0) && (last & ((1 << first) - 1)) === 0;
    if (!fits) throw new DerError("BIT STRING: unused bits are not DER");
  } else if (tag === tags.oid) {
    if (length === 0 || last >= 0x80) throw new DerError("Object identifier: cut short");
    for (let at = start; at < end; at += 1) {
      const padded = bytes[at] === 0x80 && (at === start || (bytes[at - 1] ?? 0) < 0x80);
      if (padded) throw new DerError("Object identifier: padded");
    }
  }
}

function requireInteger(bytes: Uint8Array, start: number, end: number): void {
  if (start >= end) throw new DerError("INTEGER without contents");
  const first = bytes[start] ?? 0;
  const second = bytes[start + 1] ?? 0;
  const padded = end - start > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
  if (padded) throw new DerError("INTEGER not minimal: BER, not DER");
}

function unexpected(wanted: number, found: number | null, what: string): DerError {
  return new DerError(`${what}: expected tag ${describeTag(wanted)}, found ${describeTag(found)}`);
}

function describeTag(tag: number | null): string {
  return tag === null ? "the end" : `0x${tag.toString(16)}`;
}
