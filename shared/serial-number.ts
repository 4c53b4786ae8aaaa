import { DerError, integer } from "./der.ts";
import { AppError } from "./problems.ts";

/** RFC 5280 §4.1.2.2: at most 20 content octets, so that the sign octet fits. */
const maxOctets = 20;
const form = /^[0-9a-f]{1,60}$/;

/**
 * The one spelling of a serial number: lower-case hex, whole octets, no leading `00`.
 * @param bytes big-endian; a leading sign octet is dropped
 */
export function serialFromBytes(bytes: Uint8Array): string {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, bytes.length - start).toString("hex");
}

/** DER INTEGER of a serial in its one spelling: positive, also when the highest bit is set. */
export function serialToDer(serial: string): Buffer {
  const bytes = Buffer.from(serial, "hex");
  const whole = bytes.length > 0 && bytes.length * 2 === serial.length;
  if (!whole || bytes.length + ((bytes[0] ?? 0) >> 7) > maxOctets) throw new DerError("Not a serial number");
  return integer(bytes);
}

/**
 * What people paste: upper case, colons or spaces between octets, leading zeros, `0x`.
 * @throws AppError `request-invalid`
 */
export function normaliseSerial(text: string): string {
  const digits = text.trim().toLowerCase().replace(/^0x/, "").replace(/[: ]/g, "");
  const significant = digits.replace(/^0+/, "");
  const serial = significant.length % 2 === 0 ? significant : `0${significant}`;
  const octets = serial.length / 2 + (serial >= "8" ? 1 : 0);
  if (!form.test(digits) || serial === "" || octets > maxOctets) {
    throw new AppError(
      "request-invalid",
      `"${text.slice(0, 80)}" is not a serial number; write it in hexadecimal, at most 20 octets`,
    );
  }
  return serial;
}
