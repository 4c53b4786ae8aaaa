/**
 * Reads DER (ITU-T X.690 §8, §10, §11) and refuses BER: indefinite and padded lengths, padded integers, trailing octets.
 * Only what certificates, requests and CRLs need: one-octet tags.
 */
import { DerError, tags, time } from "./der.ts";

const maxDepth = 24;

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
    if (this.nextTag !== tag)
      throw new DerError(`${what}: expected tag 0x${tag.toString(16)}, found ${describeTag(this.nextTag)}`);
    return this.any();
  }

  /** Contents of the next element, which must have this tag. */
  content(tag: number, what: string): Buffer {
    return this.element(tag, what).content;
  }

  /** Contents of the next element if it has this tag. */
  optional(tag: number): Buffer | null {
    return this.nextTag === tag ? this.any().content : null;
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
  requireInteger(content);
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
  const arcs: number[] = [];
  let arc = 0;
  let fresh = true;
  for (const octet of content) {
    if (fresh && octet === 0x80) throw new DerError("Object identifier: padded");
    arc = arc * 128 + (octet & 0x7f);
    if (!Number.isSafeInteger(arc)) throw new DerError("Object identifier: arc too large");
    fresh = octet < 0x80;
    if (!fresh) continue;
    if (arcs.length === 0) arcs.push(Math.min(2, Math.floor(arc / 40)), arc - 40 * Math.min(2, Math.floor(arc / 40)));
    else arcs.push(arc);
    arc = 0;
  }
  return arcs.join(".");
}

const utcTimeForm = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;
/** Of a UTCTime: 1950. */
const firstMoment = Date.UTC(1950, 0, 1);
const generalizedTimeForm = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/**
 * Milliseconds since the epoch of a Time in the form RFC 5280 §4.1.2.5 demands, the choice of type by year included.
 * @throws DerError
 */
export function timeValue(element: Pick<DerElement, "tag" | "content">, what: string): number {
  const form =
    element.tag === tags.utcTime ? utcTimeForm : element.tag === tags.generalizedTime ? generalizedTimeForm : null;
  const text = element.content.toString("latin1");
  const [, year = "", ...rest] = form?.exec(text) ?? [];
  const century = element.tag === tags.utcTime ? (Number(year) >= 50 ? "19" : "20") : "";
  const [month, day, hour, minute, second] = rest;
  const at = Date.parse(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // Date.parse refuses month 13 but rolls February 30 over; writing it back finds both.
  const same = at >= firstMoment && time(at).subarray(2).equals(element.content);
  if (!same) throw new DerError(`${what}: not a time as RFC 5280 writes it`);
  return at;
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
  const constructed = (tag & 0x20) !== 0;
  if ((tag & 0xc0) === 0) {
    const isContainer = tag === tags.sequence || tag === tags.set;
    if (tag === 0 || constructed !== isContainer) throw new DerError(`Tag ${describeTag(tag)} is not DER here`);
    if (!constructed)
      requireUniversal(tag, Buffer.from(bytes.buffer, bytes.byteOffset + contentStart, end - contentStart));
  }
  if (constructed) for (let inner = contentStart; inner < end;) inner = walk(bytes, inner, end, depth + 1);
  return end;
}

function requireUniversal(tag: number, content: Buffer): void {
  if (tag === tags.integer || tag === tags.enumerated) requireInteger(content);
  else if (tag === tags.boolean) booleanValue(content, "BOOLEAN");
  else if (tag === tags.null && content.length > 0) throw new DerError("NULL with contents");
  else if (tag === tags.oid) oidText(content);
  else if (tag === tags.bitString) {
    const unused = content[0];
    const last = content.at(-1) ?? 0;
    const fits =
      unused !== undefined && unused < 8 && (content.length > 1 || unused === 0) && (last & ((1 << unused) - 1)) === 0;
    if (!fits) throw new DerError("BIT STRING: unused bits are not DER");
  }
}

function requireInteger(content: Buffer): void {
  const [first, second] = content;
  if (first === undefined) throw new DerError("INTEGER without contents");
  const padded = second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
  if (padded) throw new DerError("INTEGER not minimal: BER, not DER");
}

function describeTag(tag: number | null): string {
  return tag === null ? "the end" : `0x${tag.toString(16)}`;
}
