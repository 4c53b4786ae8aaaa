import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import * as der from "@newleaf/shared/der";
import { DerReader, oidText, readElement, requireDer, timeValue, unsigned } from "@newleaf/shared/der-reader";
import { readCrl } from "@newleaf/shared/crl";
import {
  noNames,
  normaliseNames,
  parseDnsName,
  parseEmail,
  parseIpAddress,
  parseUri,
  readGeneralNames,
  generalNames,
  ipFromBytes,
  ipToBytes,
} from "@newleaf/shared/names";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { normaliseSerial, serialFromBytes, serialToDer } from "@newleaf/shared/serial-number";
import { readCertificate } from "../../server/ca/certificate.ts";
import { issueLeaf, makeCrl, makeEngineCa } from "../support/engine-ca.ts";
import { mutation } from "../support/mutation.ts";

const ca = await makeEngineCa();

/** Any element the writer can make, nested. */
const { element } = fc.letrec<{ element: Buffer }>((tie) => ({
  element: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.bigInt({ min: 0n, max: 2n ** 170n }).map((value) => der.integer(value)),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => der.octetString(bytes)),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => der.bitString(bytes)),
    fc.uniqueArray(fc.nat({ max: 20 })).map((bits) => der.namedBits(bits)),
    fc.string().map((text) => der.utf8String(text)),
    fc.boolean().map((value) => der.boolean(value)),
    fc.array(tie("element"), { maxLength: 4 }).map((parts) => der.sequence(...parts)),
    fc.array(tie("element"), { maxLength: 4 }).map((parts) => der.setOf(...parts)),
    tie("element").map((inner) => der.explicit(3, inner)),
  ),
}));

test("whatever the writer makes, the reader accepts and gives back", () => {
  fc.assert(
    fc.property(element, (bytes) => {
      requireDer(bytes, "x");
      const reader = new DerReader(bytes);
      assert.deepEqual(reader.any().bytes, bytes);
      assert.ok(reader.done);
    }),
    { numRuns: 2_000 },
  );
});

test("nothing cut short or lengthened is accepted", () => {
  fc.assert(
    fc.property(element, fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 3 }), (bytes, cut, more) => {
      assert.throws(() => requireDer(bytes.subarray(0, cut % bytes.length), "x"), der.DerError);
      assert.throws(() => requireDer(Buffer.concat([bytes, more]), "x"), der.DerError);
    }),
    { numRuns: 2_000 },
  );
});

test("random octets throw DerError or are DER, and nothing else happens", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      try {
        requireDer(bytes, "x");
      } catch (error) {
        assert.ok(error instanceof der.DerError);
      }
    }),
    { numRuns: 20_000 },
  );
});

test("integers, object identifiers and times go both ways", () => {
  const arc = fc.oneof(fc.nat({ max: 300 }), fc.integer({ min: 0, max: 2 ** 40 }));
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: 2n ** 200n }),
      fc.array(arc, { maxLength: 8 }),
      fc.integer({ min: Date.UTC(1950, 0), max: Date.UTC(9999, 11, 31) }),
      (number, arcs, at) => {
        const bytes = unsigned(readElement(der.integer(number), der.tags.integer, "x"), "x");
        assert.equal(BigInt(`0x${bytes.toString("hex")}`), number);
        const dotted = ["2", "5", ...arcs].join(".");
        assert.equal(oidText(readElement(der.oid(dotted), der.tags.oid, "x")), dotted);
        assert.equal(timeValue(new DerReader(der.time(at)).any(), "x"), Math.floor(at / 1000) * 1000);
      },
    ),
    { numRuns: 3_000 },
  );
});

test("serial numbers go both ways and have one spelling", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 19 }).filter((bytes) => bytes.some((octet) => octet !== 0)),
      (bytes) => {
        const serial = serialFromBytes(bytes);
        assert.equal(serialFromBytes(unsigned(readElement(serialToDer(serial), der.tags.integer, "x"), "x")), serial);
        assert.equal(normaliseSerial(`00:${serial.toUpperCase().replace(/..(?=.)/g, "$&:")}`), serial);
      },
    ),
  );
});

test("PEM goes both ways with text around it", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 4 }), (ders) => {
      const text = ders.map((bytes) => `text\n${pemEncode("CERTIFICATE", bytes)}`).join("\n");
      assert.deepEqual(
        pemDecode(text, "CERTIFICATE"),
        ders.map((bytes) => Buffer.from(bytes)),
      );
    }),
  );
});

test("a name is refused with request-invalid or has a canonical form that stays as it is", () => {
  const text = fc.oneof(
    fc.string(),
    fc.domain(),
    fc.ipV4(),
    fc.ipV6(),
    fc.emailAddress(),
    fc.webUrl(),
    fc.string({ unit: fc.constantFrom(..."aZ0-._*:/@[]%\0 ") }),
  );
  fc.assert(
    fc.property(text, (name) => {
      for (const parse of [parseDnsName, parseIpAddress, parseUri, parseEmail]) {
        let canonical: string;
        try {
          canonical = parse(name);
        } catch (error) {
          assert.ok(error instanceof AppError && error.code === "request-invalid", String(error));
          continue;
        }
        assert.equal(parse(canonical), canonical);
        assert.match(canonical, /^[\x21-\x7e]+$/);
      }
    }),
    { numRuns: 20_000 },
  );
});

test("addresses go both ways, and names survive GeneralNames", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(fc.domain(), { maxLength: 5 }),
      fc.array(fc.ipV4(), { maxLength: 3 }),
      (octets, domains, ip) => {
        const address = ipFromBytes(octets);
        if (address !== null) assert.deepEqual(ipToBytes(address), Buffer.from(octets));
        const names = normaliseNames({ ...noNames, dns: ["a.b", ...domains], ip });
        assert.deepEqual(readGeneralNames(generalNames(names)), names);
      },
    ),
    { numRuns: 2_000 },
  );
});

test("mutated CRLs throw DerError, or read, but then their signature does not hold", () => {
  const good = makeCrl(ca.issuer, ca.now, [{ serial: "0a", revokedAt: ca.now, reason: "keyCompromise" }], 3);
  fc.assert(
    fc.property(mutation(good), (bytes) => {
      try {
        assert.ok(bytes.equals(good) || !readCrl(bytes).verify(ca.issuer.publicKey));
      } catch (error) {
        assert.ok(error instanceof der.DerError, String(error));
      }
    }),
    { numRuns: 10_000 },
  );
});

test("mutated certificates throw DerError or read", async () => {
  const { der: good } = await issueLeaf(ca);
  fc.assert(
    fc.property(mutation(good), (bytes) => {
      try {
        readCertificate(bytes);
      } catch (error) {
        assert.ok(error instanceof der.DerError, String(error));
      }
    }),
    { numRuns: 10_000 },
  );
});
