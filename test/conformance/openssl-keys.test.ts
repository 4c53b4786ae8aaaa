import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { createPrivateKey } from "node:crypto";
import { createCsr } from "@newleaf/shared/csr";
import { generateKey, keyAlgorithms } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import { readCsr } from "../../server/ca/csr.ts";
import { decryptPrivateKey, encryptPrivateKey } from "../../server/keys/private-key.ts";
import { isAppError } from "../support/errors.ts";
import { openSsl } from "../support/openssl.ts";
import { needs } from "../support/programs.ts";

const skip = needs("openssl");
const openssl = openSsl();
after(() => openssl[Symbol.dispose]());
const names = {
  dns: ["a.claw.internal"],
  ip: ["10.0.1.42", "2001:db8::1"],
  uri: ["spiffe://claw/g"],
  email: ["ops@claw.internal"],
};
const asked =
  "subjectAltName=DNS:a.claw.internal,IP:10.0.1.42,IP:2001:db8::1,URI:spiffe://claw/g,email:ops@claw.internal";

for (const algorithm of keyAlgorithms) {
  test(`openssl verifies our request with a key of ${algorithm}`, { skip }, async () => {
    const der = createCsr({ key: await generateKey(algorithm), commonName: "gateway-1", names });
    const { ok, output } = openssl.ask([
      "req",
      "-in",
      openssl.pem("our.csr", "CERTIFICATE REQUEST", der),
      "-verify",
      "-noout",
      "-text",
    ]);
    assert.ok(ok, output);
    assert.match(
      output,
      /DNS:a\.claw\.internal, IP Address:10\.0\.1\.42, IP Address:2001:DB8:0:0:0:0:0:1, URI:spiffe:\/\/claw\/g, email:ops@claw\.internal/,
    );
  });
}

const newKey: Readonly<Record<string, readonly string[]>> = {
  "ecdsa-p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  "ecdsa-p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
  ed25519: ["ed25519"],
  "rsa-3072": ["rsa:3072"],
};

/** `openssl req` as people use it, with one thing different. */
function request(key: readonly string[], ...more: readonly string[]): string {
  return openssl.run([
    "req",
    "-new",
    "-nodes",
    "-newkey",
    ...key,
    "-keyout",
    "/dev/null",
    "-subj",
    "/O=Claw/CN=gateway-1",
    ...more,
  ]);
}

for (const [algorithm, key] of Object.entries(newKey)) {
  test(`readCsr reads what openssl req makes with ${algorithm}`, { skip }, () => {
    const csr = readCsr(request(key, "-addext", asked, "-addext", "keyUsage=critical,digitalSignature"));
    assert.equal(csr.algorithm, algorithm);
    assert.equal(csr.commonName, "gateway-1");
    assert.deepEqual(csr.names, names);
  });
}

const p256 = newKey["ecdsa-p256"] ?? [];

test("readCsr refuses explicit curve parameters, as openssl writes them, with csr-malformed", { skip }, () => {
  const pem = request([...p256, "-pkeyopt", "ec_param_enc:explicit"]);
  assert.throws(
    () => readCsr(pem),
    (error) => isAppError(error, "csr-malformed") && /explicit/.test(error.message),
  );
});

test("readCsr refuses what openssl req makes with weak keys and digests", { skip }, () => {
  const cases = [
    ["key-not-acceptable", request(["rsa:1024"])],
    ["key-not-acceptable", request(["rsa:2048"])],
    ["key-not-acceptable", request(["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"])],
    ["key-not-acceptable", request(["ec", "-pkeyopt", "ec_paramgen_curve:prime192v1"])],
    ["key-not-acceptable", request(["ed448"])],
    ["csr-signature-invalid", request(p256, "-sha1")],
    ["csr-signature-invalid", request(["rsa:3072"], "-sha1")],
    ["csr-signature-invalid", request(["rsa:3072"], "-sigopt", "rsa_padding_mode:pss")],
    ["csr-malformed", request(p256, "-addext", "basicConstraints=critical,CA:TRUE")],
    ["csr-malformed", request(p256, "-addext", "subjectAltName=otherName:1.2.3.4;UTF8:x")],
    ["csr-malformed", request(p256, "-addext", "1.2.3.4=critical,DER:0500")],
  ] as const;
  for (const [code, pem] of cases)
    assert.throws(
      () => readCsr(pem),
      (error) => isAppError(error, code),
      code,
    );
});

test("openssl opens our encrypted key with the passphrase from a file, and we open openssl's", { skip }, async () => {
  const key = await generateKey("ecdsa-p384");
  const file = join(openssl.dir, "root.key");
  const passphrase = join(openssl.dir, "passphrase");
  writeFileSync(passphrase, "correct horse battery staple\n");
  writeFileSync(file, await encryptPrivateKey(key, "correct horse battery staple"));
  const plain = openssl.run(["pkey", "-in", file, "-passin", `file:${passphrase}`]);
  assert.ok(createPrivateKey(plain).equals(key));
  const structure = openssl.run(["asn1parse", "-in", file]);
  for (const part of ["PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", "0927C0"])
    assert.ok(structure.includes(part), part);
  assert.ok(!openssl.ask(["pkey", "-in", file, "-passin", "pass:wrong"]).ok);

  const theirs = join(openssl.dir, "theirs.key");
  writeFileSync(join(openssl.dir, "plain.key"), pemEncode("PRIVATE KEY", key.export({ type: "pkcs8", format: "der" })));
  openssl.run([
    "pkcs8",
    "-topk8",
    "-v2",
    "aes-256-cbc",
    "-in",
    "plain.key",
    "-out",
    theirs,
    "-passout",
    `file:${passphrase}`,
  ]);
  assert.ok(decryptPrivateKey(readFileSync(theirs, "utf8"), "correct horse battery staple").equals(key));
});
