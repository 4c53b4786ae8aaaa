import * as fc from "fast-check";

type Edit = (bytes: Buffer) => Buffer;

/** Bytes with one to four edits: flipped bits, overwritten, removed, doubled or inserted octets, lengths changed by one. */
export function mutation(good: Uint8Array): fc.Arbitrary<Buffer> {
  const at = fc.nat({ max: Math.max(0, good.length - 1) });
  const edit: fc.Arbitrary<Edit> = fc.oneof(
    fc.tuple(at, fc.nat({ max: 7 })).map(
      ([place, bit]): Edit =>
        (bytes) =>
          set(bytes, place, (octet) => octet ^ (1 << bit)),
    ),
    fc.tuple(at, fc.integer({ min: 0, max: 255 })).map(
      ([place, value]): Edit =>
        (bytes) =>
          set(bytes, place, () => value),
    ),
    fc.tuple(at, fc.constantFrom(-1, 1)).map(
      ([place, step]): Edit =>
        (bytes) =>
          set(bytes, place, (octet) => octet + step),
    ),
    fc.tuple(at, fc.integer({ min: 1, max: 20 })).map(
      ([place, count]): Edit =>
        (bytes) =>
          splice(bytes, place, count, Buffer.alloc(0)),
    ),
    fc.tuple(at, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(
      ([place, more]): Edit =>
        (bytes) =>
          splice(bytes, place, 0, more),
    ),
    fc.tuple(at, fc.integer({ min: 1, max: 60 })).map(
      ([place, count]): Edit =>
        (bytes) =>
          splice(bytes, place, 0, bytes.subarray(place, place + count)),
    ),
  );
  return fc
    .array(edit, { minLength: 1, maxLength: 4 })
    .map((edits) => edits.reduce<Buffer>((bytes, apply) => apply(bytes), Buffer.from(good)));
}

function set(bytes: Buffer, place: number, change: (octet: number) => number): Buffer {
  const copy = Buffer.from(bytes);
  if (place < copy.length) copy[place] = change(copy[place] ?? 0);
  return copy;
}

function splice(bytes: Buffer, place: number, remove: number, insert: Uint8Array): Buffer {
  return Buffer.concat([bytes.subarray(0, place), insert, bytes.subarray(place + remove)]);
}
