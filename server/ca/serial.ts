import { serialFromBytes } from "@newleaf/shared/serial-number";

const octets = 16;

/**
 * A serial number of always 16 octets from 126 random bits: positive, and without a leading zero to disagree about
 * (RFC 5280 §4.1.2.2 wants at most 20).
 * @param random 16 fresh bytes from a CSPRNG
 */
export function newSerial(random: Uint8Array): string {
  if (random.length !== octets)
    throw new Error(`A serial number is made from ${octets} random bytes, not ${random.length}`);
  const bytes = Buffer.from(random);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return serialFromBytes(bytes);
}
