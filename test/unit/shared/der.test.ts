import assert from "node:assert/strict";
import { test } from "node:test";
import * as der from "@newleaf/shared/der";
import {
  bitStringOctets,
  DerReader,
  oidText,
  readElement,
  requireDer,
  smallInteger,
  timeValue,
  unsigned,
} from "@newleaf/shared/der-reader";

const { DerError } = der;

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
}

test("lengths are minimal at every boundary", () => {
  const headers: [number, string][] = [
    [0, "0400"],
    [127, "047f"],
    [128, "048180"],
    [255, "0481ff"],
    [256, "04820100"],
    [65_535, "0482ffff"],
    [65_536, "0483010000"],
  ];
  for (const [length, header] of headers) {
    const encoded = der.octetString(Buffer.alloc(length));
    assert.equal(encoded.toString("hex", 0, header.length / 2), header);
    assert.equal(readElement(encoded, der.tags.octetString, "x").length, length);
  }
});

test("integers are minimal and positive", () => {
  const cases: [number | bigint | Uint8Array, string][] = [
    [0, "020100"],
    [127, "02017f"],
    [128, "02020080"],
    [256, "02020100"],
    [2n ** 64n, "0209010000000000000000"],
    [hex("00000080"), "02020080"],
    [hex("ff"), "020200ff"],
    [hex(""), "020100"],
  ];
  for (const [value, expected] of cases) assert.equal(der.integer(value).toString("hex"), expected);
  assert.throws(() => der.integer(-1), DerError);
  assert.throws(() => der.integer(1.5), DerError);
});

test("object identifiers go both ways", () => {
  for (const [dotted, content] of [
    ["1.2.840.113549.1.1.11", "2a864886f70d01010b"],
    ["2.5.29.17", "551d11"],
    ["2.999.1", "883701"],
    ["0.9", "09"],
  ] as const) {
    assert.equal(der.oid(dotted).toString("hex", 2), content);
    assert.equal(oidText(hex(content)), dotted);
  }
  for (const bad of ["", "1", "3.1", "1.40", "1.2.x", "1.2.-1"]) assert.throws(() => der.oid(bad), DerError, bad);
  for (const bad of ["", "80", "2a80", "2a8001", "2affffffffffffffffff7f"])
    assert.throws(() => oidText(hex(bad)), DerError, bad);
});

test("named bits drop trailing zeros and count the unused", () => {
  assert.equal(der.namedBits([0]).toString("hex"), "03020780");
  assert.equal(der.namedBits([0, 2]).toString("hex"), "030205a0");
  assert.equal(der.namedBits([5, 6]).toString("hex"), "03020106");
  assert.equal(der.namedBits([8]).toString("hex"), "0303070080");
  assert.equal(der.namedBits([]).toString("hex"), "030100");
});

test("a SET OF is sorted by encoding", () => {
  assert.equal(
    der.setOf(der.integer(2), der.nullValue(), der.integer(1)).toString("hex"),
    "3108 020101 020102 0500".replaceAll(" ", ""),
  );
});

test("strings refuse characters that their type does not have", () => {
  assert.throws(() => der.ia5String("münchen.de"), DerError);
  assert.throws(() => der.printableString("a@b"), DerError);
  assert.equal(der.utf8String("ü").toString("hex"), "0c02c3bc");
});

test("times are UTCTime through 2049 and GeneralizedTime from 2050, cut to the second", () => {
  const cases: [string, string, number][] = [
    ["2026-11-20T13:30:58.999Z", "261120133058Z", 0x17],
    ["2049-12-31T23:59:59.999Z", "491231235959Z", 0x17],
    ["2050-01-01T00:00:00.000Z", "20500101000000Z", 0x18],
    ["1950-01-01T00:00:00.000Z", "500101000000Z", 0x17],
    ["9999-12-31T23:59:59.000Z", "99991231235959Z", 0x18],
    ["2028-02-29T12:00:00.000Z", "280229120000Z", 0x17],
  ];
  for (const [iso, text, tag] of cases) {
    const encoded = der.time(Date.parse(iso));
    assert.equal(encoded[0], tag);
    assert.equal(encoded.toString("latin1", 2), text);
    assert.equal(timeValue({ tag, content: encoded.subarray(2) }, "x"), Math.floor(Date.parse(iso) / 1000) * 1000);
  }
  for (const at of [Number.NaN, Date.UTC(1949, 0), Date.UTC(10_000, 0), Number.POSITIVE_INFINITY])
    assert.throws(() => der.time(at), DerError);
});

test("times that RFC 5280 does not allow are refused", () => {
  const utc = [
    "2611201330Z",
    "261120133058+0000",
    "261320133058Z",
    "260229120000Z",
    "261100133058Z",
    "261120243058Z",
    "261120136058Z",
    "261120133060Z",
    "26112013305aZ",
    "",
    "261120133058z",
  ];
  const generalized = ["20491231235959Z", "20500101000000.5Z", "20500101000000", "20501301000000Z", "2050010100000 Z"];
  for (const text of utc)
    assert.throws(() => timeValue({ tag: 0x17, content: Buffer.from(text) }, "x"), DerError, text);
  for (const text of generalized)
    assert.throws(() => timeValue({ tag: 0x18, content: Buffer.from(text) }, "x"), DerError, text);
  assert.throws(() => timeValue({ tag: 0x04, content: Buffer.from("261120133058Z") }, "x"), DerError);
});

/** Encodings that BER allows, or that nothing allows. */
const notDer: Readonly<Record<string, string>> = {
  "an indefinite length": "3080 0500 0000",
  "a padded short length": "0481 01 00",
  "a padded long length": "0482 0001 00",
  "a length past the end": "0402 00",
  "a length of five octets": "0485 0000000001 00",
  "an element past its parent": "3003 040200 00",
  "a padded positive integer": "0202 0001",
  "a padded negative integer": "0202 ff80",
  "an empty integer": "0200",
  "a TRUE that is not ff": "0101 01",
  "an empty boolean": "0100",
  "a NULL with contents": "0501 00",
  "a constructed octet string": "2403 040100",
  "a primitive sequence": "1000",
  "a tag of two octets": "1f81 0100",
  "an end of contents": "0000",
  "a bit string without its first octet": "0300",
  "a bit string with set unused bits": "0302 0301",
  "a bit string with eight unused bits": "0302 0800",
  "unused bits of nothing": "0301 01",
  "an empty object identifier": "0600",
  "a padded object identifier": "0602 8001",
  "an object identifier cut short": "0602 2a86",
  "an octet after the element": "0500 00",
  "one octet": "30",
  nothing: "",
};
for (const [name, bytes] of Object.entries(notDer)) {
  test(`requireDer refuses ${name}`, () => {
    assert.throws(() => requireDer(hex(bytes), "x"), DerError);
    // Inside a context tag as well, where the walk has to go on.
    assert.throws(
      () =>
        requireDer(
          Buffer.concat([Buffer.from([0x30, hex(bytes).length + 2, 0xa0, hex(bytes).length]), hex(bytes), hex("00")]),
          "x",
        ),
      DerError,
    );
  });
}

test("requireDer refuses depth without overflowing the stack", () => {
  let deep: Buffer = der.nullValue();
  for (let depth = 0; depth < 5000; depth += 1) deep = der.sequence(deep);
  assert.throws(() => requireDer(deep, "x"), /deeper/);
});

test("a reader refuses the wrong tag, what is left over, and numbers that are no such numbers", () => {
  assert.throws(() => new DerReader(hex("0500")).content(der.tags.integer, "x"), /x: expected tag 0x2, found 0x5/);
  assert.throws(() => new DerReader(hex("")).any(), DerError);
  assert.throws(() => readElement(hex("050000"), der.tags.null, "x"), /1 octets too many/);
  assert.throws(() => unsigned(hex("80"), "x"), /negative/);
  assert.throws(() => smallInteger(hex("0100000000000000"), "x"), /too large/);
  assert.throws(() => bitStringOctets(hex("07 80"), "x"), DerError);
  assert.equal(new DerReader(hex("0500")).optional(der.tags.boolean), null);
});
