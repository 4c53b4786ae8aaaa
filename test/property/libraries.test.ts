// oxlint-disable-next-line import/no-unassigned-import -- @peculiar/x509 needs it before it
import "reflect-metadata";
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import * as x509 from "@peculiar/x509";
import * as fc from "fast-check";
import * as pkijs from "pkijs";
import { createCsr } from "@newleaf/shared/csr";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { defaultProfiles } from "../../server/ca/profile.ts";
import { newSerial } from "../../server/ca/serial.ts";
import { issueLeaf, makeCrl, makeEngineCa } from "../support/engine-ca.ts";
import type { RevocationReason } from "../../server/store/revocations.ts";

// What our encoder writes, three strangers read: @peculiar/x509, pkijs and node:crypto (OpenSSL) must agree with what was meant.

const ca = await makeEngineCa();
const key = await generateKey("ecdsa-p256");
const day = 86_400_000;
const serial = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => newSerial(bytes));
const names = fc.record({
  dns: fc.uniqueArray(
    fc.domain().map((name) => name.toLowerCase()),
    { maxLength: 4 },
  ),
  ip: fc.uniqueArray(fc.ipV4(), { maxLength: 2 }),
  uri: fc.uniqueArray(
    fc.nat().map((n) => `spiffe://claw.internal/agent-${n}`),
    { maxLength: 2 },
  ),
  email: fc.uniqueArray(
    fc.nat().map((n) => `agent-${n}@claw.internal`),
    { maxLength: 2 },
  ),
});
const moment = fc.integer({ min: ca.now, max: ca.now + 1000 * day });

function hexOf(bytes: ArrayBuffer | ArrayBufferView): string {
  return Buffer.from(ArrayBuffer.isView(bytes) ? bytes.buffer : bytes).toString("hex");
}

test("three libraries read from a leaf what was prepared", async () => {
  await fc.assert(
    fc.asyncProperty(
      serial,
      names,
      moment,
      fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/),
      async (number, given, now, identity) => {
        const { der, prepared } = await issueLeaf(ca, {
          key,
          serial: number,
          names: given,
          now,
          identity,
          profile: defaultProfiles.gateway,
        });
        const node = new X509Certificate(der);
        assert.equal(node.serialNumber.toLowerCase(), number);
        assert.equal(node.subject, `CN=${identity}`);
        assert.ok(node.verify(ca.issuer.publicKey));

        const peculiar = new x509.X509Certificate(der);
        assert.equal(peculiar.serialNumber, number);
        assert.equal(peculiar.subjectName.getField("CN")[0], identity);
        assert.equal(peculiar.notBefore.getTime(), prepared.notBefore);
        assert.equal(peculiar.notAfter.getTime(), prepared.notAfter);
        const kinds = { dns: "dns", ip: "ip", uri: "url", email: "email" } as const;
        const read = peculiar.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
        for (const kind of ["dns", "ip", "uri", "email"] as const) {
          assert.deepEqual(
            read.filter(({ type }) => type === kinds[kind]).map(({ value }) => value),
            given[kind],
          );
        }
        assert.equal(hexOf(peculiar.rawData), der.toString("hex"));

        const pki = pkijs.Certificate.fromBER(new Uint8Array(der).buffer);
        assert.equal(Buffer.from(pki.serialNumber.valueBlock.valueHexView).toString("hex"), number);
        assert.equal(pki.notAfter.value.getTime(), prepared.notAfter);
        assert.equal(
          Buffer.from(pki.toSchema(true).toBER()).toString("hex"),
          der.toString("hex"),
          "pkijs writes the same bytes",
        );
      },
    ),
    { numRuns: 100 },
  );
});

test("two libraries read from a CRL what was revoked", async () => {
  const reason = fc.constantFrom<RevocationReason>(
    "keyCompromise",
    "superseded",
    "certificateHold",
    "cessationOfOperation",
  );
  const any = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => `80${Buffer.from(bytes).toString("hex")}`);
  const entry = fc.record({ serial: fc.oneof(serial, any), revokedAt: moment, reason });
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(entry, { selector: ({ serial }) => serial, maxLength: 30 }),
      fc.nat(),
      async (revoked, number) => {
        const der = makeCrl(ca.issuer, ca.now, revoked, number);
        const crl = new x509.X509Crl(der);
        assert.deepEqual(
          crl.entries.map((one) => [one.serialNumber.replace(/^00/, ""), one.revocationDate.getTime()]),
          revoked.map(({ serial, revokedAt }) => [serial, Math.floor(revokedAt / 1000) * 1000]),
        );
        assert.ok(await crl.verify({ publicKey: new x509.X509Certificate(ca.issuer.certificate).publicKey }));
        const pki = pkijs.CertificateRevocationList.fromBER(new Uint8Array(der).buffer);
        assert.equal(pki.revokedCertificates?.length ?? 0, revoked.length);
      },
    ),
    { numRuns: 60 },
  );
});

test("two libraries read from a request what was asked", async () => {
  await fc.assert(
    fc.asyncProperty(names, async (asked) => {
      const der = createCsr({ key, commonName: "gateway-1", names: asked });
      const request = new x509.Pkcs10CertificateRequest(der);
      assert.ok(await request.verify());
      assert.equal(request.subject, "CN=gateway-1");
      const san = request.getExtension("2.5.29.17");
      assert.equal(san === null, JSON.stringify(asked) === JSON.stringify(noNames));
      const pki = pkijs.CertificationRequest.fromBER(new Uint8Array(der).buffer);
      assert.ok(await pki.verify());
    }),
    { numRuns: 60 },
  );
});
