import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { chmod, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { loadIssuer } from "../../../../server/keys/load-issuer.ts";
import { decryptPrivateKey, encryptPrivateKey, writePrivateKey } from "../../../../server/keys/private-key.ts";
import { isAppError } from "../../../support/errors.ts";
import { makeEngineCa } from "../../../support/engine-ca.ts";

const dir = await mkdtemp(join(tmpdir(), "newleaf-keys-"));
after(() => rm(dir, { recursive: true }));
const key = await generateKey("ecdsa-p384");
const passphrase = "correct horse ü battery staple";
const encrypted = await encryptPrivateKey(key, passphrase);

test("an encrypted key opens with its passphrase only", () => {
  assert.ok(decryptPrivateKey(encrypted, passphrase).equals(key));
  for (const wrong of ["", "correct horse u battery staple", `${passphrase} `]) {
    assert.throws(
      () => decryptPrivateKey(encrypted, wrong),
      (error) => isAppError(error, "request-invalid"),
    );
  }
});

test("two encryptions of one key have nothing in common but their header", async () => {
  const again = await encryptPrivateKey(key, passphrase);
  assert.notEqual(again.split("\n")[2], encrypted.split("\n")[2]);
});

test("an empty passphrase, a plain key and a damaged file are refused with request-invalid, without quoting them", async () => {
  await assert.rejects(encryptPrivateKey(key, ""), (error) => isAppError(error, "request-invalid"));
  const plain = key.export({ type: "pkcs8", format: "pem" }).toString();
  const damaged = encrypted.replace(/\n(.)/, (_, first: string) => `\n${first === "A" ? "B" : "A"}`);
  for (const text of ["", plain, damaged]) {
    assert.throws(
      () => decryptPrivateKey(text, passphrase),
      (error) =>
        isAppError(error, "request-invalid") && !error.message.includes(passphrase) && error.cause === undefined,
    );
  }
});

test("a key file is 0600 whatever the umask, and never replaces another", async () => {
  const file = join(dir, "new.pem");
  const before = process.umask(0);
  try {
    await writePrivateKey(file, key);
  } finally {
    process.umask(before);
  }
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  await assert.rejects(writePrivateKey(file, key), { code: "EEXIST" });
});

test("loadIssuer opens a key file that only its owner can read", async () => {
  const ca = await makeEngineCa();
  const file = join(dir, "issuer.pem");
  await writePrivateKey(file, ca.issuerKey);
  const issuer = loadIssuer(ca.issuer.certificate, file);
  assert.equal(issuer.id, ca.issuer.id);
  assert.equal(issuer.recordFirst, false);
  const link = join(dir, "link.pem");
  await symlink(file, link);
  for (const mode of [0o640, 0o604, 0o660, 0o644]) {
    await chmod(file, mode);
    for (const path of [file, link]) {
      assert.throws(
        () => loadIssuer(ca.issuer.certificate, path),
        (error) => isAppError(error, "conflict") && error.message.includes(`chmod 600 ${path}`),
      );
    }
  }
});

test("loadIssuer refuses another CA's key, an encrypted key and what is no key with conflict", async () => {
  const ca = await makeEngineCa();
  for (const [name, text] of [
    [
      "other",
      createPrivateKey(key.export({ type: "pkcs8", format: "pem" }))
        .export({ type: "pkcs8", format: "pem" })
        .toString(),
    ],
    ["encrypted", encrypted],
    ["junk", "hello"],
  ] as const) {
    const file = join(dir, `${name}.pem`);
    await writeFile(file, text, { mode: 0o600 });
    assert.throws(
      () => loadIssuer(ca.issuer.certificate, file),
      (error) => isAppError(error, "conflict"),
      name,
    );
  }
});
