import assert from "node:assert/strict";
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import {
  algorithmOf,
  describeKey,
  generateKey,
  keyAlgorithms,
  signatureAlgorithm,
  signBytes,
  verifyBytes,
} from "@newleaf/shared/key-algorithm";

for (const algorithm of keyAlgorithms) {
  test(`a generated ${algorithm} key is one, signs, and its signature holds for nothing else`, async () => {
    const key = await generateKey(algorithm);
    const publicKey = createPublicKey(key);
    assert.equal(algorithmOf(key), algorithm);
    assert.equal(algorithmOf(publicKey), algorithm);
    const signature = signBytes(key, Buffer.from("a"));
    assert.ok(verifyBytes(publicKey, Buffer.from("a"), signature));
    assert.ok(!verifyBytes(publicKey, Buffer.from("b"), signature));
  });
}

test("other keys are named for their refusal and never sign", () => {
  const cases = {
    "RSA-1024": generateKeyPairSync("rsa", { modulusLength: 1024 }),
    "RSA-3072 with exponent 3": generateKeyPairSync("rsa", { modulusLength: 3072, publicExponent: 3 }),
    "EC secp256k1": generateKeyPairSync("ec", { namedCurve: "secp256k1" }),
    ED448: generateKeyPairSync("ed448"),
  };
  for (const [name, { privateKey }] of Object.entries(cases)) {
    assert.equal(describeKey(privateKey), name);
    assert.equal(algorithmOf(privateKey), null);
    assert.throws(() => signatureAlgorithm(privateKey), /not a key that Newleaf signs with/);
  }
});
