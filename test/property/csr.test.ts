import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { createCsr } from "@newleaf/shared/csr";
import { integer, octetString, oid, sequence, tlv, utf8String } from "@newleaf/shared/der";
import { spkiOf } from "@newleaf/shared/fingerprint";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import { readCsr } from "../../server/ca/csr.ts";
import { mutation } from "../support/mutation.ts";
import { attribute, rawRequest } from "../support/raw-request.ts";

const key = await generateKey("ecdsa-p256");
const edKey = await generateKey("ed25519");
const rsaKey = await generateKey("rsa-3072");
const names = {
  dns: ["gateway.claw.internal"],
  ip: ["10.0.1.42", "2001:db8::1"],
  uri: ["spiffe://claw/g"],
  email: ["ops@claw.internal"],
};
const codes: readonly ProblemCode[] = ["csr-malformed", "csr-signature-invalid", "key-not-acceptable"];

/** Refused with a code of its own, or read. */
function outcome(input: string | Uint8Array, allowed = codes): ReturnType<typeof readCsr> | null {
  try {
    return readCsr(input);
  } catch (error) {
    assert.ok(
      error instanceof AppError && allowed.includes(error.code),
      error instanceof Error ? error.stack : String(error),
    );
    return null;
  }
}

for (const [algorithm, own] of Object.entries({ "ecdsa-p256": key, ed25519: edKey, "rsa-3072": rsaKey })) {
  test(`a mutated request with a key of ${algorithm} is refused by code; what still reads is what was signed`, () => {
    const good = createCsr({ key: own, commonName: "gateway-1", names });
    fc.assert(
      fc.property(mutation(good), (bytes) => {
        const csr = outcome(bytes);
        if (csr === null) return;
        assert.equal(csr.commonName, "gateway-1");
        assert.deepEqual(csr.names, names);
        assert.deepEqual(csr.spki, spkiOf(own));
      }),
      { numRuns: 10_000 },
    );
  });
}

test("a mutated PEM is refused by code, or is the same request", () => {
  const good = createCsr({ key: edKey, commonName: "gateway-1", names });
  fc.assert(
    fc.property(mutation(Buffer.from(pemEncode("CERTIFICATE REQUEST", good))), (text) => {
      const csr = outcome(text.toString("latin1"));
      if (csr !== null) assert.deepEqual(csr.der, good);
    }),
    { numRuns: 5_000 },
  );
});

test("signed requests with anything at all inside are refused by code or read", () => {
  const blob = fc.uint8Array({ maxLength: 40 });
  const any = fc.oneof(
    blob.map((bytes) => tlv(0x04, bytes)),
    fc.tuple(fc.integer({ min: 0, max: 255 }), blob).map(([tag, bytes]) => tlv(tag, bytes)),
    fc.string({ unit: "binary" }).map((text) => utf8String(text)),
    fc.constantFrom(sequence(), integer(0), oid("2.5.4.3"), oid("2.5.29.17")),
  );
  const nested = fc.array(any, { maxLength: 4 }).map((parts) => sequence(...parts));
  const extensions = fc
    .tuple(fc.constantFrom("2.5.29.17", "2.5.29.15", "2.5.29.19", "2.5.29.37"), fc.oneof(any, nested))
    .map(([id, value]) => attribute(oid("1.2.840.113549.1.9.14"), sequence(sequence(oid(id), octetString(value)))));
  const subject = fc.oneof(
    any,
    nested,
    any.map((value) => sequence(tlv(0x31, sequence(oid("2.5.4.3"), value)))),
  );
  fc.assert(
    fc.property(subject, fc.array(fc.oneof(any, nested, extensions), { maxLength: 3 }), (name, attributes) => {
      const csr = outcome(rawRequest({ key: edKey, subject: name, attributes }));
      if (csr?.commonName !== null && csr !== null) assert.doesNotMatch(csr.commonName, /\p{Cc}/u);
    }),
    { numRuns: 10_000 },
  );
});

test("any text and any octets are refused by code", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String(),
        fc.uint8Array({ maxLength: 500 }),
        fc.uint8Array({ maxLength: 200 }).map((bytes) => sequence(bytes)),
      ),
      (input) => {
        assert.equal(outcome(input, ["csr-malformed"]), null);
      },
    ),
    { numRuns: 10_000 },
  );
});

test("what createCsr writes, readCsr reads", () => {
  fc.assert(
    fc.property(
      fc.array(fc.domain(), { maxLength: 10 }),
      fc.option(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/), { nil: undefined }),
      (domains, commonName) => {
        const dns = [...new Set(domains.map((name) => name.toLowerCase()))];
        const csr = readCsr(
          createCsr({ key: edKey, ...(commonName === undefined ? {} : { commonName }), names: { ...noNames, dns } }),
        );
        assert.deepEqual(csr.names, { ...noNames, dns });
        assert.equal(csr.commonName, commonName ?? null);
      },
    ),
    { numRuns: 500 },
  );
});
