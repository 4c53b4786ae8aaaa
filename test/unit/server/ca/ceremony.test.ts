import { issuerId } from "@newleaf/shared/fingerprint";
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { createIntermediate, createRoot, createTwin } from "../../../../server/ca/ceremony.ts";
import { readBasicConstraints, readCertificate, readKeyUsage } from "../../../../server/ca/certificate.ts";
import { openIssuer, readIssuerCertificate } from "../../../../server/ca/issuer.ts";
import { isAppError } from "../../../support/errors.ts";
import { issueLeaf, makeEngineCa, publicUrl, random16 } from "../../../support/engine-ca.ts";

const now = Date.parse("2026-11-20T12:34:56.789Z");
const rootKey = await generateKey("ecdsa-p384");
const issuerKey = await generateKey("ecdsa-p256");
const root = await createRoot({ caName: "Claw Lab", now, key: rootKey, random: random16() });
const plan = { caName: "Claw Lab", root, rootKey, key: issuerKey, now, publicUrl, random: random16() };
const intermediate = await createIntermediate(plan);

test("the root lives ten years and may sign certificates and CRLs", () => {
  const fields = readCertificate(root);
  assert.equal(new Date(fields.notBefore).toISOString(), "2026-11-20T12:29:56.000Z");
  assert.equal(new Date(fields.notAfter).toISOString(), "2036-11-20T12:34:55.000Z");
  assert.deepEqual(fields.issuer, fields.subject);
  const constraints = fields.extensions.get("2.5.29.19");
  assert.equal(constraints?.critical, true);
  assert.deepEqual(readBasicConstraints(constraints.value), { ca: true, pathLength: null });
  assert.deepEqual([...readKeyUsage(fields.extensions.get("2.5.29.15")?.value ?? Buffer.alloc(0))], [5, 6]);
  assert.ok(new X509Certificate(root).verify(new X509Certificate(root).publicKey));
});

test("the intermediate lives three years, signs leaves only, and points at the root's CRL and certificate", () => {
  const fields = readCertificate(intermediate);
  assert.equal(new Date(fields.notAfter).toISOString(), "2029-11-20T12:34:55.000Z");
  assert.deepEqual(fields.issuer, readCertificate(root).subject);
  assert.equal(readBasicConstraints(fields.extensions.get("2.5.29.19")?.value ?? Buffer.alloc(0)).pathLength, 0);
  const rootId = readIssuerCertificate(root).id;
  assert.ok(intermediate.includes(`${publicUrl}/crl/${rootId}.crl`));
  assert.ok(intermediate.includes(`${publicUrl}/issuers/${rootId}.crt`));
  assert.ok(new X509Certificate(intermediate).checkIssued(new X509Certificate(root)));
});

test("an intermediate never outlives its root, and an ended root makes none", async () => {
  const rootEnd = readCertificate(root).notAfter;
  const late = await createIntermediate({ ...plan, now: Date.UTC(2035, 0, 1) });
  assert.equal(readCertificate(late).notAfter, rootEnd);
  await assert.rejects(createIntermediate({ ...plan, now: rootEnd }), (error) =>
    isAppError(error, "issuer-unavailable"),
  );
});

test("every generation of the same CA has another name and another id", async () => {
  const other = readIssuerCertificate(await createIntermediate({ ...plan, key: await generateKey("ecdsa-p256") }));
  const first = readIssuerCertificate(intermediate);
  assert.notDeepEqual(other.subject, first.subject);
  assert.notEqual(other.id, first.id);
  assert.equal(first.id, issuerId(first.spki));
  assert.match(first.id, /^[0-9a-f]{16}$/);
});

test("the twin has the intermediate's name, key and key identifier, signs itself and carries its leaves", async () => {
  const twin = await createTwin({ certificate: intermediate, key: issuerKey, random: random16() });
  const [a, b] = [readIssuerCertificate(twin), readIssuerCertificate(intermediate)];
  assert.deepEqual(
    [a.subject, a.issuer, a.spki, a.keyId, a.notAfter],
    [b.subject, b.subject, b.spki, b.keyId, b.notAfter],
  );
  assert.notEqual(a.serial, b.serial);
  const ca = { ...(await makeEngineCa({ now })), issuer: openIssuer(intermediate, issuerKey) };
  assert.ok(new X509Certificate((await issueLeaf(ca)).der).checkIssued(new X509Certificate(twin)));
  await assert.rejects(createTwin({ certificate: intermediate, key: rootKey, random: random16() }), (error) =>
    isAppError(error, "conflict"),
  );
});

test("characters that mean something in written names are only characters", async () => {
  const caName = `Claw "Lab", O=x #1+CN=y\\`;
  const der = await createRoot({ caName, now, key: rootKey, random: random16() });
  assert.ok(der.includes(Buffer.from(caName)));
  assert.equal(readCertificate(der).subject.includes("Root"), true);
  assert.equal(new X509Certificate(der).subject.split("\n").length, 2);
});

test("a CA name that does not fit is refused with request-invalid", async () => {
  for (const caName of ["", " Claw", "Claw\n", "a\0b", "x".repeat(41)]) {
    await assert.rejects(
      createRoot({ caName, now, key: rootKey, random: random16() }),
      (error) => isAppError(error, "request-invalid"),
      JSON.stringify(caName),
    );
  }
});

test("CA keys of RSA-4096 work as well", async () => {
  const ca = await makeEngineCa({ now, rootKey: "rsa-4096", issuerKey: "rsa-4096" });
  const { der } = await issueLeaf(ca);
  assert.ok(new X509Certificate(der).verify(ca.issuer.publicKey));
});

test("openIssuer takes only a CA certificate with its own key", async () => {
  assert.throws(
    () => openIssuer(intermediate, rootKey),
    (error) => isAppError(error, "conflict"),
  );
  assert.throws(
    () => openIssuer(Buffer.from("junk"), rootKey),
    (error) => isAppError(error, "conflict"),
  );
  const { der, key } = await issueLeaf(await makeEngineCa({ now }));
  assert.throws(
    () => openIssuer(der, key),
    (error) => isAppError(error, "conflict") && /CA:TRUE/.test(error.message),
  );
  assert.throws(
    () => readIssuerCertificate(Buffer.concat([root, Buffer.from([0])])),
    (error) => isAppError(error, "conflict"),
  );
});
