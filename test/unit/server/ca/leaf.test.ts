import assert from "node:assert/strict";
import { createHash, createPublicKey, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { tlv } from "@newleaf/shared/der";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { authorityKeyId, readCertificate, readKeyUsage, subjectKeyId } from "../../../../server/ca/certificate.ts";
import type { Issuer } from "../../../../server/ca/issuer.ts";
import { leafNames, prepareLeaf, signLeaf } from "../../../../server/ca/leaf.ts";
import { lintLeaf } from "../../../../server/ca/lint.ts";
import { defaultProfiles } from "../../../../server/ca/profile.ts";
import { newSerial } from "../../../../server/ca/serial.ts";
import { isAppError } from "../../../support/errors.ts";
import { issueLeaf, leafPlan, makeEngineCa } from "../../../support/engine-ca.ts";

const now = Date.parse("2026-11-20T12:34:56.789Z");
const day = 86_400_000;
const ca = await makeEngineCa({ now });
const names = {
  dns: ["gateway.claw.internal"],
  ip: ["10.0.1.42", "::1"],
  uri: ["spiffe://claw/g"],
  email: ["ops@claw.internal"],
};
const leafKey = await generateKey("ecdsa-p256");

test("a leaf lives 30 days from its issuance, both ends inclusive, and is backdated by five minutes", async () => {
  const { prepared } = await issueLeaf(ca);
  assert.equal(new Date(prepared.notBefore).toISOString(), "2026-11-20T12:29:56.000Z");
  assert.equal(new Date(prepared.notAfter).toISOString(), "2026-12-20T12:34:55.000Z");
  const operator = await issueLeaf(ca, { profile: defaultProfiles.operator });
  assert.equal(operator.prepared.notAfter - prepared.notAfter, 60 * day);
});

test("a leaf of seconds is in date at once and for its whole life", async () => {
  const profile = { ...defaultProfiles.gateway, validity: 20_000 };
  const { prepared } = await issueLeaf(ca, { profile });
  assert.ok(prepared.notBefore < now && prepared.notAfter > now + 17_000 && prepared.notAfter < now + 20_000);
});

test("a leaf never outlives its issuer, and none comes from an issuer that has ended", async () => {
  const late = ca.issuer.notAfter - 5 * day;
  assert.equal((await issueLeaf(ca, { now: late })).prepared.notAfter, ca.issuer.notAfter);
  for (const ended of [ca.issuer.notAfter, ca.issuer.notAfter + day]) {
    await assert.rejects(issueLeaf(ca, { now: ended }), (error) => isAppError(error, "issuer-unavailable"));
  }
});

test("node:crypto reads from a leaf what was meant", async () => {
  const { der, key, prepared } = await issueLeaf(ca, { profile: defaultProfiles.gateway, names });
  const read = new X509Certificate(der);
  assert.equal(read.subject, "CN=gateway-1");
  assert.equal(read.serialNumber.toLowerCase(), prepared.serial);
  assert.equal(
    read.subjectAltName,
    "DNS:gateway.claw.internal, IP Address:10.0.1.42, IP Address:0:0:0:0:0:0:0:1, URI:spiffe://claw/g, email:ops@claw.internal",
  );
  assert.equal(read.validFromDate.getTime(), prepared.notBefore);
  assert.equal(read.validToDate.getTime(), prepared.notAfter);
  assert.deepEqual(read.keyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
  assert.equal(read.ca, false);
  assert.ok(read.checkPrivateKey(key));
  assert.ok(read.verify(ca.issuer.publicKey));
  assert.ok(read.checkIssued(new X509Certificate(ca.issuer.certificate)));
});

test("the issuer's name is copied byte for byte and its key identifier is the leaf's authority", async () => {
  const fields = readCertificate((await issueLeaf(ca)).der);
  assert.deepEqual(fields.issuer, ca.issuer.subject);
  assert.deepEqual(authorityKeyId(fields), ca.issuer.keyId);
  assert.equal(subjectKeyId(fields)?.length, 20);
});

test("keyEncipherment is given to RSA servers only", async () => {
  const usage = async (
    algorithm: "rsa-3072" | "ecdsa-p256" | "ed25519",
    profile: "agent" | "gateway",
  ): Promise<number[]> => {
    const { der } = await issueLeaf(ca, { key: await generateKey(algorithm), profile: defaultProfiles[profile] });
    const extension = readCertificate(der).extensions.get("2.5.29.15");
    assert.equal(extension?.critical, true);
    return [...readKeyUsage(extension.value)];
  };
  assert.deepEqual(await usage("rsa-3072", "gateway"), [0, 2]);
  assert.deepEqual(await usage("rsa-3072", "agent"), [0]);
  assert.deepEqual(await usage("ecdsa-p256", "gateway"), [0]);
  assert.deepEqual(await usage("ed25519", "gateway"), [0]);
});

test("leafNames reads the names of a leaf, and none from one without", async () => {
  assert.deepEqual(leafNames((await issueLeaf(ca, { names })).der), names);
  const bare = (await issueLeaf(ca)).der;
  assert.deepEqual(leafNames(bare), noNames);
  assert.equal(readCertificate(bare).extensions.has("2.5.29.17"), false);
});

test("a prepared leaf cannot be changed, nor signed by another issuer", async () => {
  const prepared = prepareLeaf(leafPlan(ca, leafKey));
  assert.ok(Object.isFrozen(prepared));
  const other = await makeEngineCa({ now });
  assert.throws(() => signLeaf(prepared, other.issuer), /was prepared for issuer/);
});

test("signLeaf releases nothing whose bytes changed after they were prepared", () => {
  const prepared = prepareLeaf(leafPlan(ca, leafKey, { names }));
  const at = prepared.tbs.indexOf("gateway.claw.internal");
  prepared.tbs[at] = 0x68;
  assert.throws(() => signLeaf(prepared, ca.issuer), /is not what was prepared/);
});

test("signLeaf releases no signature of a distant signer that does not hold", () => {
  const broken: Issuer = { ...ca.issuer, recordFirst: true, sign: () => ca.issuer.sign(Buffer.from("something else")) };
  const plan = { ...leafPlan(ca, leafKey), issuer: broken };
  assert.throws(() => signLeaf(prepareLeaf(plan), broken), /signature that does not hold/);
  const honest: Issuer = { ...ca.issuer, recordFirst: true };
  signLeaf(prepareLeaf({ ...plan, issuer: honest }), honest);
});

test("prepareLeaf refuses names that are not canonical, and ids that do not fit into a CN", () => {
  const plan = leafPlan(ca, leafKey);
  const refused = (error: unknown): boolean => isAppError(error, "internal");
  assert.throws(
    () => prepareLeaf({ ...plan, names: { ...noNames, dns: ["Gateway.Claw.Internal"] } }),
    (error) => refused(error) && /4\.2\.1\.6/.test(String(error)),
  );
  assert.throws(
    () => prepareLeaf({ ...plan, identity: "a".repeat(65) }),
    (error) => refused(error) && /appendix A/.test(String(error)),
  );
  assert.throws(
    () => prepareLeaf({ ...plan, serial: "01" }),
    (error) => refused(error) && /4\.1\.2\.2/.test(String(error)),
  );
  assert.throws(
    () => prepareLeaf({ ...plan, publicUrl: "ca.claw.internal" }),
    (error) => refused(error) && /4\.2\.1\.13/.test(String(error)),
  );
});

test("the lint names the clause of whatever differs from the decision", async () => {
  const plan = leafPlan(ca, leafKey, { names });
  const { tbs } = prepareLeaf(plan);
  const other = await makeEngineCa({ now, issuerKey: "ecdsa-p384" });
  const otherLeaf = leafPlan(ca, await generateKey("rsa-3072"));
  const clauses = (change: object): string[] => lintLeaf({ ...plan, tbs, ...change }).map(({ clause }) => clause);
  assert.deepEqual(clauses({}), []);
  assert.deepEqual(clauses({ serial: newSerial(Buffer.alloc(16)) }), ["RFC 5280 §4.1.2.2"]);
  assert.deepEqual(clauses({ issuer: { ...ca.issuer, signatureAlgorithm: other.issuer.signatureAlgorithm } }), [
    "RFC 5280 §4.1.2.3",
  ]);
  assert.deepEqual(clauses({ issuer: { ...ca.issuer, subject: other.issuer.subject } }), ["RFC 5280 §4.1.2.4"]);
  assert.deepEqual(clauses({ issuer: { ...ca.issuer, notAfter: now } }), ["RFC 5280 §4.1.2.5"]);
  assert.deepEqual(clauses({ now: now + 31 * day }), ["RFC 5280 §4.1.2.5", "profile"]);
  assert.deepEqual(clauses({ profile: { ...plan.profile, validity: day } }), ["profile"]);
  assert.deepEqual(clauses({ identity: "gateway-2" }), ["RFC 5280 §4.1.2.6"]);
  assert.deepEqual(clauses({ spki: otherLeaf.spki }), ["RFC 5280 §4.1.2.7"]);
  assert.deepEqual(clauses({ issuer: { ...ca.issuer, keyId: other.issuer.keyId } }), ["RFC 5280 §4.2.1.1"]);
  assert.deepEqual(clauses({ names: noNames }), ["RFC 5280 §4.2.1.6"]);
  assert.deepEqual(clauses({ names: { ...names, dns: [] } }), ["RFC 5280 §4.2.1.6"]);
  assert.deepEqual(clauses({ profile: { ...plan.profile, extendedKeyUsage: ["serverAuth"] } }), ["RFC 5280 §4.2.1.12"]);
  assert.deepEqual(clauses({ issuer: { ...ca.issuer, id: "0000000000000000" } }), [
    "RFC 5280 §4.2.1.13",
    "RFC 5280 §4.2.2.1",
  ]);
  assert.deepEqual(clauses({ tbs: tlv(0x30) }), ["X.690"]);
  assert.deepEqual(clauses({ tbs: Buffer.concat([tbs, Buffer.from([0])]) }), ["X.690"]);
});

test("serial numbers are 16 octets, positive, and carry the random bits", () => {
  assert.equal(newSerial(Buffer.alloc(16, 0xff)), `7f${"ff".repeat(15)}`);
  assert.equal(newSerial(Buffer.alloc(16)), `40${"00".repeat(15)}`);
  assert.throws(() => newSerial(Buffer.alloc(15)), /16 random bytes/);
});

test("the key identifier is that of RFC 7093 §2 (1)", async () => {
  const { der, key } = await issueLeaf(ca);
  const point = createPublicKey(key).export({ type: "spki", format: "der" }).subarray(-65);
  assert.deepEqual(subjectKeyId(readCertificate(der)), createHash("sha256").update(point).digest().subarray(0, 20));
});
