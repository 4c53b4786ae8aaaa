import assert from "node:assert/strict";
import { constants, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { test } from "node:test";
import { createCsr } from "@newleaf/shared/csr";
import {
  bitString,
  boolean,
  enumerated,
  ia5String,
  implicit,
  integer,
  namedBits,
  nullValue,
  octetString,
  oid,
  printableString,
  sequence,
  tlv,
  utf8String,
} from "@newleaf/shared/der";
import { keyFingerprint, spkiOf } from "@newleaf/shared/fingerprint";
import { generateKey, keyAlgorithms } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import type { ProblemCode } from "@newleaf/shared/problems";
import { readCsr } from "../../../../server/ca/csr.ts";
import { isAppError } from "../../../support/errors.ts";
import {
  altNames,
  attribute,
  attributeTypes,
  commonName,
  ecdsaWithSha256,
  extension,
  extensionRequest,
  nameOf,
  rawRequest,
} from "../../../support/raw-request.ts";

const key = await generateKey("ecdsa-p256");
const names = {
  dns: ["gateway.claw.internal", "*.claw.internal"],
  ip: ["10.0.1.42", "2001:db8::1"],
  uri: ["spiffe://claw/g"],
  email: ["ops@claw.internal"],
};
const good = createCsr({ key, commonName: "gateway-1", names });

/** An RSA key with what Node will not make by itself taken from `openssl`-like parameters. */
function rsa(bits: number, publicExponent = 65_537): KeyObject {
  return generateKeyPairSync("rsa", { modulusLength: bits, publicExponent }).privateKey;
}

function ec(namedCurve: string): KeyObject {
  return generateKeyPairSync("ec", { namedCurve }).privateKey;
}

function refuses(request: string | Uint8Array, code: ProblemCode, message?: RegExp): void {
  assert.throws(
    () => readCsr(request),
    (error) => {
      assert.ok(
        isAppError(error, code),
        `expected ${code}, got ${error instanceof Error ? error.stack : String(error)}`,
      );
      if (message !== undefined) assert.match(error.message, message);
      return true;
    },
  );
}

for (const algorithm of keyAlgorithms) {
  test(`readCsr reads a request with a key of ${algorithm}`, async () => {
    const own = await generateKey(algorithm);
    const csr = readCsr(createCsr({ key: own, commonName: "gateway-1", names }));
    assert.equal(csr.algorithm, algorithm);
    assert.equal(csr.key, keyFingerprint(own));
    assert.deepEqual(csr.spki, spkiOf(own));
    assert.deepEqual(csr.names, names);
    assert.equal(csr.commonName, "gateway-1");
  });
}

test("readCsr reads DER, PEM, the older PEM label, and base64 with any white space", () => {
  const pem = pemEncode("CERTIFICATE REQUEST", good);
  const base64 = good.toString("base64");
  const spellings = [
    good,
    pem,
    Buffer.from(pem),
    pem.replaceAll("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST").replaceAll("\n", "\r\n"),
    `Certificate request of gateway-1\n${pem}`,
    base64,
    ` ${base64.replace(/.{10}/g, "$& \t\r\n")}\n`,
  ];
  for (const spelling of spellings) assert.deepEqual(readCsr(spelling).der, good);
});

test("readCsr reads a request that asks for nothing, and ignores other subject fields and attributes", () => {
  assert.deepEqual(readCsr(createCsr({ key })).names, noNames);
  assert.equal(readCsr(createCsr({ key })).commonName, null);
  const subject = sequence(
    tlv(0x31, sequence(oid("2.5.4.10"), printableString("evil, CN=other"))),
    tlv(0x31, sequence(oid("2.5.4.3"), utf8String("gateway-1"))),
  );
  const challenge = attribute(attributeTypes.challengePassword, utf8String("secret"));
  const usual = extensionRequest(
    extension("2.5.29.15", namedBits([0, 2]), true),
    extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.1"))),
    extension("2.5.29.19", sequence(), true),
    extension("1.2.3.4", nullValue()),
    altNames([0x82, "Gateway.Claw.Internal"], [0x82, "gateway.claw.internal"]),
  );
  const csr = readCsr(rawRequest({ key, subject, attributes: [challenge, usual] }));
  assert.equal(csr.commonName, "gateway-1");
  assert.deepEqual(csr.names, { ...noNames, dns: ["gateway.claw.internal"] });
});

test("readCsr accepts SHA-384 and SHA-512 where a client prefers them, and RSA without the NULL", () => {
  for (const [hash, id] of [
    ["sha384", "1.2.840.10045.4.3.3"],
    ["sha512", "1.2.840.10045.4.3.4"],
  ] as const) {
    readCsr(rawRequest({ key, algorithm: sequence(oid(id)), signature: (info) => sign(hash, info, key) }));
  }
  const own = rsa(3072);
  readCsr(
    rawRequest({
      key: own,
      algorithm: sequence(oid("1.2.840.113549.1.1.11")),
      signature: (info) => sign("sha256", info, own),
    }),
  );
});

/** Keys that are refused, by the name the refusal gives them. */
const weakKeys: Readonly<Record<string, () => Buffer>> = {
  "RSA-1024": () => rsaRequest(rsa(1024)),
  "RSA-2048": () => rsaRequest(rsa(2048)),
  "RSA-3072 with exponent 3": () => rsaRequest(rsa(3072, 3)),
  "RSA-3080": () => rsaRequest(rsa(3080)),
  "RSASSA-PSS": () => {
    const own = generateKeyPairSync("rsa-pss", {
      modulusLength: 3072,
      hashAlgorithm: "sha256",
      mgf1HashAlgorithm: "sha256",
    }).privateKey;
    return rawRequest({ key, spki: spkiOf(own) });
  },
  "EC secp256k1": () => ecRequest(ec("secp256k1")),
  "EC P-192": () => ecRequest(ec("prime192v1")),
  "EC P-224": () => ecRequest(ec("secp224r1")),
  "EC P-521": () => ecRequest(ec("secp521r1")),
  "EC brainpoolP256r1": () => ecRequest(ec("brainpoolP256r1")),
  Ed448: () => rawRequest({ key, spki: spkiOf(generateKeyPairSync("ed448").privateKey) }),
  X25519: () => rawRequest({ key, spki: spkiOf(generateKeyPairSync("x25519").privateKey) }),
  "ML-DSA-44": () =>
    rawRequest({ key, spki: sequence(sequence(oid("2.16.840.1.101.3.4.3.17")), bitString(Buffer.alloc(1312))) }),
  "algorithm 1.2.3.4": () => rawRequest({ key, spki: sequence(sequence(oid("1.2.3.4")), bitString(Buffer.alloc(32))) }),
  "ecdsa-p256 as a compressed point": () => {
    const spki = spkiOf(key);
    const point = Buffer.concat([Buffer.from([2 + ((spki.at(-1) ?? 0) & 1)]), spki.subarray(-64, -32)]);
    return rawRequest({ key, spki: sequence(p256, bitString(point)) });
  },
  "not a valid ecdsa-p256 key": () =>
    rawRequest({ key, spki: sequence(p256, bitString(Buffer.concat([Buffer.from([4]), Buffer.alloc(64, 1)]))) }),
};
const p256 = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"));

function rsaRequest(own: KeyObject): Buffer {
  return rawRequest({
    key: own,
    algorithm: sequence(oid("1.2.840.113549.1.1.11"), nullValue()),
    signature: (info) => sign("sha256", info, own),
  });
}

function ecRequest(own: KeyObject): Buffer {
  return rawRequest({ key: own, algorithm: ecdsaWithSha256, signature: (info) => sign("sha256", info, own) });
}

for (const [name, make] of Object.entries(weakKeys)) {
  test(`readCsr refuses a key that is ${name} with key-not-acceptable`, () =>
    refuses(make(), "key-not-acceptable", new RegExp(`is ${name}[;,]|is ${name}$`)));
}

test("readCsr refuses an RSA exponent above the range of FIPS 186-5 with key-not-acceptable", () => {
  const modulus = Buffer.alloc(384, 0xc1);
  const huge = sequence(integer(modulus), integer(Buffer.alloc(300, 0xff)));
  const spki = sequence(sequence(oid("1.2.840.113549.1.1.1"), nullValue()), bitString(huge));
  refuses(rawRequest({ key, spki }), "key-not-acceptable", /above 2\^64/);
});

/** Signatures that are refused. The request is otherwise good. */
const badSignatures: Readonly<Record<string, () => Buffer>> = {
  "of another key": () => rawRequest({ key, signature: (info) => sign("sha256", info, ec("P-256")) }),
  "over other bytes": () => rawRequest({ key, signature: (info) => sign("sha256", info.subarray(1), key) }),
  "that is empty": () => rawRequest({ key, signature: () => Buffer.alloc(0) }),
  "with SHA-1 and ECDSA": () =>
    rawRequest({ key, algorithm: sequence(oid("1.2.840.10045.4.1")), signature: (info) => sign("sha1", info, key) }),
  "with SHA-224 and ECDSA": () =>
    rawRequest({
      key,
      algorithm: sequence(oid("1.2.840.10045.4.3.1")),
      signature: (info) => sign("sha224", info, key),
    }),
  "with an algorithm of another kind of key": () => rawRequest({ key, algorithm: sequence(oid("1.3.101.112")) }),
  "with ECDSA and NULL parameters": () =>
    rawRequest({ key, algorithm: sequence(oid("1.2.840.10045.4.3.2"), nullValue()) }),
};
for (const [name, make] of Object.entries(badSignatures)) {
  test(`readCsr refuses a signature ${name} with csr-signature-invalid`, () =>
    refuses(make(), "csr-signature-invalid"));
}

test("readCsr refuses RSA signatures with SHA-1, MD5 and PSS by name with csr-signature-invalid", () => {
  const own = rsa(3072);
  const withRsa = (id: string, signature: (info: Buffer) => Buffer): Buffer =>
    rawRequest({ key: own, algorithm: sequence(oid(id), nullValue()), signature });
  refuses(
    withRsa("1.2.840.113549.1.1.5", (info) => sign("sha1", info, own)),
    "csr-signature-invalid",
    /SHA-1 with RSA/,
  );
  refuses(
    withRsa("1.2.840.113549.1.1.4", (info) => sign("md5", info, own)),
    "csr-signature-invalid",
    /MD5 with RSA/,
  );
  const pss = (info: Buffer): Buffer => sign("sha256", info, { key: own, padding: constants.RSA_PKCS1_PSS_PADDING });
  refuses(withRsa("1.2.840.113549.1.1.10", pss), "csr-signature-invalid", /RSASSA-PSS/);
});

const san = altNames([0x82, "a.claw.internal"]);

/** Requests with one defect, by its name. All are signed correctly. */
const malformed: Readonly<Record<string, () => Buffer>> = {
  "version 1": () => rawRequest({ key, version: integer(1) }),
  "no attributes field": () => rawRequest({ key, attributes: null }),
  "two common names": () => rawRequest({ key, subject: nameOf(utf8String("a"), utf8String("b")) }),
  "an empty common name": () => rawRequest({ key, subject: commonName("") }),
  "a common name of 65 characters": () => rawRequest({ key, subject: commonName("a".repeat(65)) }),
  "NUL in the common name": () => rawRequest({ key, subject: commonName("gateway-1\0.evil") }),
  "a line end in the common name": () => rawRequest({ key, subject: commonName("a\nb") }),
  "a direction override in the common name": () => rawRequest({ key, subject: commonName("a\u202eb") }),
  "a common name that is not UTF-8": () => rawRequest({ key, subject: nameOf(tlv(0x0c, Buffer.from([0xc3, 0x28]))) }),
  "a BMPString common name": () => rawRequest({ key, subject: nameOf(tlv(0x1e, Buffer.from([0, 0x61]))) }),
  "an empty relative distinguished name": () => rawRequest({ key, subject: sequence(tlv(0x31)) }),
  "two extension requests": () => rawRequest({ key, attributes: [extensionRequest(san), extensionRequest(san)] }),
  "an extension request of Windows beside the usual one": () =>
    rawRequest({ key, attributes: [extensionRequest(san), attribute(oid("1.3.6.1.4.1.311.2.1.14"), sequence(san))] }),
  "an extension request with two values": () =>
    rawRequest({ key, attributes: [attribute(attributeTypes.extensionRequest, sequence(san), sequence(san))] }),
  "an empty extension request": () => rawRequest({ key, attributes: [extensionRequest()] }),
  "an extension request without value": () =>
    rawRequest({ key, attributes: [attribute(attributeTypes.extensionRequest)] }),
  "an extension twice": () => rawRequest({ key, attributes: [extensionRequest(san, san)] }),
  "an unknown critical extension": () =>
    rawRequest({ key, attributes: [extensionRequest(extension("1.2.3.4", nullValue(), true))] }),
  "the default of critical spelled out": () =>
    rawRequest({
      key,
      attributes: [extensionRequest(sequence(oid("1.2.3.4"), boolean(false), octetString(nullValue())))],
    }),
  "a CA certificate asked for": () =>
    rawRequest({ key, attributes: [extensionRequest(extension("2.5.29.19", sequence(boolean(true)), true))] }),
  "the right to sign certificates asked for": () =>
    rawRequest({ key, attributes: [extensionRequest(extension("2.5.29.15", namedBits([0, 5]), true))] }),
  "the right to sign CRLs asked for": () =>
    rawRequest({ key, attributes: [extensionRequest(extension("2.5.29.15", namedBits([6]), true))] }),
  "no name in the subjectAltName": () => rawRequest({ key, attributes: [extensionRequest(altNames())] }),
  "NUL in a DNS name": () =>
    rawRequest({ key, attributes: [extensionRequest(altNames([0x82, "a.claw.internal\0.evil"]))] }),
  "Latin-1 in a DNS name": () =>
    rawRequest({ key, attributes: [extensionRequest(altNames([0x82, Buffer.from("m\xfcnchen.de", "latin1")]))] }),
  "an empty DNS name": () => rawRequest({ key, attributes: [extensionRequest(altNames([0x82, ""]))] }),
  "a wildcard in the middle": () =>
    rawRequest({ key, attributes: [extensionRequest(altNames([0x82, "a.*.internal"]))] }),
  "an IP address of 5 octets": () =>
    rawRequest({ key, attributes: [extensionRequest(altNames([0x87, Buffer.from([1, 2, 3, 4, 5])]))] }),
  "an IPv4 address mapped into IPv6": () =>
    rawRequest({
      key,
      attributes: [extensionRequest(altNames([0x87, Buffer.from("00000000000000000000ffff0a00012a", "hex")]))],
    }),
  "a relative URI": () => rawRequest({ key, attributes: [extensionRequest(altNames([0x86, "/gateway"]))] }),
  "an otherName": () =>
    rawRequest({
      key,
      attributes: [
        extensionRequest(extension("2.5.29.17", sequence(tlv(0xa0, oid("1.2.3"), tlv(0xa0, utf8String("x")))))),
      ],
    }),
  "a directoryName": () =>
    rawRequest({ key, attributes: [extensionRequest(extension("2.5.29.17", sequence(tlv(0xa4, commonName("x")))))] }),
  "octets after the subjectAltName": () =>
    rawRequest({
      key,
      attributes: [
        extensionRequest(
          extension("2.5.29.17", Buffer.concat([sequence(implicit(2, Buffer.from("a.b"))), nullValue()])),
        ),
      ],
    }),
  "an attribute that is no sequence": () => rawRequest({ key, attributes: [enumerated(1)] }),
  "an IA5String where an attribute type belongs": () =>
    rawRequest({ key, subject: sequence(tlv(0x31, sequence(ia5String("2.5.4.3"), utf8String("x")))) }),
  "an Ed25519 key of 31 octets": () =>
    rawRequest({ key, spki: sequence(sequence(oid("1.3.101.112")), bitString(Buffer.alloc(31))) }),
  "explicit curve parameters": () =>
    rawRequest({
      key,
      spki: sequence(sequence(oid("1.2.840.10045.2.1"), sequence(integer(1))), bitString(Buffer.alloc(65, 4))),
    }),
  "an RSA key in BER": () =>
    rawRequest({
      key,
      spki: sequence(
        sequence(oid("1.2.840.113549.1.1.1"), nullValue()),
        bitString(sequence(tlv(2, Buffer.from([0, 1])), integer(65_537))),
      ),
    }),
  "nesting of 40": () => rawRequest({ key, attributes: [attribute(oid("1.2.3"), nested(40))] }),
  "an unminimal integer inside an ignored attribute": () =>
    rawRequest({ key, attributes: [attribute(oid("1.2.3"), tlv(2, Buffer.from([0, 1])))] }),
  "octets after the request": () => Buffer.concat([good, Buffer.from([0])]),
  "an indefinite length": () => Buffer.concat([Buffer.from([0x30, 0x80]), good.subarray(4), Buffer.from([0, 0])]),
  "a length with a leading zero": () => Buffer.concat([Buffer.from([0x30, 0x83, 0]), good.subarray(2)]),
  "its end missing": () => good.subarray(0, -1),
  "nothing but a tag": () => Buffer.from([0x30]),
};

function nested(depth: number): Buffer {
  return depth === 0 ? nullValue() : sequence(nested(depth - 1));
}

for (const [name, make] of Object.entries(malformed)) {
  test(`readCsr refuses a request with ${name} with csr-malformed`, () => refuses(make(), "csr-malformed"));
}

test("readCsr refuses text that is not one PEM block or base64 with csr-malformed", () => {
  const pem = pemEncode("CERTIFICATE REQUEST", good);
  const texts = [
    "",
    "   ",
    "hello world",
    pem + pem,
    pem.replace(/-----END.*/, ""),
    pem.replaceAll("CERTIFICATE REQUEST", "CERTIFICATE"),
    pem.replace("\n", "\n!"),
    `${good.toString("base64")}=`,
    good.toString("base64url"),
  ];
  for (const text of texts) refuses(text, "csr-malformed");
});

test("readCsr refuses more than 64 KB with request-too-large, before reading it", () => {
  refuses(Buffer.alloc(1_000_000, 0x30), "request-too-large");
  refuses("A".repeat(1_000_000), "request-too-large");
  refuses(
    rawRequest({ key, attributes: [attribute(oid("1.2.3"), octetString(Buffer.alloc(65_536)))] }),
    "request-too-large",
  );
});

test("readCsr keeps its own copy of DER that a caller gave it", () => {
  const bytes = Buffer.from(good);
  const csr = readCsr(bytes);
  bytes.fill(0);
  assert.deepEqual(csr.der, good);
});
