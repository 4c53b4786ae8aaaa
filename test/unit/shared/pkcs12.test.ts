import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createSecureContext } from "node:tls";
import { pemDecode } from "@newleaf/shared/pem";
import { keyStore, macKey, passphraseProblem, trustStore } from "@newleaf/shared/pkcs12";
import { makeMaterial } from "../../support/material.ts";
import { needs } from "../../support/programs.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { makeTestCa } from "../../support/test-ca.ts";

const passphrase = "a pass-phrase of some length";

describe("PKCS#12 stores", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("pkcs12");
  const passwordFile = join(directory, "passphrase");
  writeFileSync(passwordFile, `${passphrase}\n`, { mode: 0o600 });
  const pki = makeTestCa(directory);
  const material = makeMaterial(pki);
  const { key, leaf, chain } = material;
  const certificates = [leaf, ...chain];
  const entry = { alias: "Gateway-1", key, certificates };
  const protection = { passphrase, seed: key };
  let count = 0;
  const onDisk = (store: Buffer): string => {
    const path = join(directory, `store-${(count += 1)}.p12`);
    writeFileSync(path, store);
    return path;
  };
  const openssl = (store: Buffer, ...flags: readonly string[]): string =>
    execFileSync("openssl", ["pkcs12", "-in", onDisk(store), "-passin", `file:${passwordFile}`, ...flags], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  const keytool = (store: Buffer, ...flags: readonly string[]): string =>
    execFileSync(
      "keytool",
      ["-list", "-keystore", onDisk(store), "-storetype", "PKCS12", "-storepass:file", passwordFile, ...flags],
      { encoding: "utf8", env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" }, stdio: ["ignore", "pipe", "pipe"] },
    );

  it("gives OpenSSL 3 key, leaf and chain back, tied together and named", async () => {
    const store = await keyStore(entry, protection);
    const text = openssl(store, "-nodes");
    const read = createPrivateKey(text.slice(text.indexOf("-----BEGIN PRIVATE KEY")));
    assert.ok(new X509Certificate(leaf).checkPrivateKey(read));
    assert.deepEqual(pemDecode(text, "CERTIFICATE"), certificates);
    assert.equal(text.match(/friendlyName: Gateway-1/g)?.length, 2, "the key and its certificate");
    const ids = [...text.matchAll(/localKeyID: ([0-9A-F ]+)/g)].map(([, id]) => id?.trim());
    assert.equal(ids.length, 2);
    assert.equal(ids[0], ids[1]);
  });

  it("uses nothing that OpenSSL 3 calls legacy", async () => {
    const path = onDisk(await keyStore(entry, protection));
    const said = execFileSync(
      "sh",
      ["-c", 'openssl pkcs12 -info -noout -in "$1" -passin "file:$2" 2>&1', "sh", path, passwordFile],
      { encoding: "utf8" },
    );
    assert.match(said, /MAC: sha256, Iteration 50000/);
    assert.equal(said.match(/PBES2, PBKDF2, AES-256-CBC, Iteration 50000, PRF hmacWithSHA256/g)?.length, 2);
  });

  it("is taken by Node's own TLS, and a wrong passphrase or a changed byte is not", async () => {
    const store = await keyStore(entry, protection);
    createSecureContext({ pfx: store, passphrase });
    assert.throws(() => createSecureContext({ pfx: store, passphrase: "another" }), /mac verify failure/);
    const changed = Buffer.from(store);
    changed[changed.length >> 1] = (changed[changed.length >> 1] ?? 0) ^ 1;
    assert.throws(() => createSecureContext({ pfx: changed, passphrase }));
  });

  it("holds every kind of key that can be asked for", async () => {
    const kinds: readonly KeyObject[] = [
      generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey,
      generateKeyPairSync("ed25519").privateKey,
      generateKeyPairSync("rsa", { modulusLength: 3072 }).privateKey,
    ];
    for (const other of kinds) {
      const issued = pki.intermediate.issue({ key: other });
      const of = { alias: "x", key: other, certificates: [issued.certificate] };
      const text = openssl(await keyStore(of, { passphrase, seed: other }), "-nodes", "-nocerts");
      const read = createPrivateKey(text.slice(text.indexOf("-----BEGIN")));
      assert.ok(new X509Certificate(issued.certificate).checkPrivateKey(read), other.asymmetricKeyType);
    }
  });

  it("is the same again for the same content, and another one in every byte that matters for any other", async () => {
    const store = await keyStore(entry, protection);
    assert.ok(store.equals(await keyStore(entry, protection)));
    const others = await Promise.all([
      keyStore(entry, { ...protection, passphrase: `${passphrase}.` }),
      keyStore({ ...entry, alias: "gateway-2" }, protection),
      keyStore({ ...entry, certificates: [leaf] }, protection),
    ]);
    const salts = [store, ...others].map((one) => one.subarray(-21, -5).toString("hex"));
    assert.equal(new Set(salts).size, 4, "no salt is used twice");
    const trust = await trustStore(chain, protection);
    assert.ok(trust.equals(await trustStore(chain, protection)));
    const otherSeed = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    assert.ok(!trust.equals(await trustStore(chain, { passphrase, seed: otherSeed })));
  });

  it("derives the MAC key as RFC 7292 appendix B says, for passphrases and salts longer than a block too", async () => {
    for (const [length, salt] of [
      [6, 8],
      [40, 64],
      [200, 100],
    ] as const) {
      const long = "p".repeat(length);
      const saltBytes = Buffer.alloc(salt, 0xa5);
      const args = ["kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt", `hexpass:${bmp(long)}`];
      const more = ["-kdfopt", `hexsalt:${saltBytes.toString("hex")}`, "-kdfopt", "iter:1000", "-kdfopt", "id:3"];
      const expected = execFileSync("openssl", [...args, ...more, "PKCS12KDF"], { encoding: "utf8" });
      assert.equal(macKey(long, saltBytes, 1000).toString("hex"), expected.trim().replaceAll(":", "").toLowerCase());
    }
  });

  it("shows Java one key with its chain", { skip: needs("keytool") }, async () => {
    const text = keytool(await keyStore(entry, protection), "-v");
    assert.match(text, /contains 1 entry/);
    assert.match(text, /Alias name: gateway-1/);
    assert.match(text, /Entry type: PrivateKeyEntry/);
    assert.match(text, /chain length: 2/);
  });

  it("shows Java each trusted certificate under a name of its own", { skip: needs("keytool") }, async () => {
    const authorities = [pki.root.certificate, pki.intermediate.certificate, pki.root.crossSign(pki.intermediate)];
    const text = keytool(await trustStore(authorities, protection));
    assert.match(text, /contains 3 entries/);
    assert.equal(text.match(/trustedCertEntry/g)?.length, 3);
    assert.match(text, /test root [0-9a-f]{16}/);
  });

  it("takes only passphrases that all programs encode alike", () => {
    assert.equal(passphraseProblem("changeit"), null);
    for (const bad of ["", "short", "grün-genug", "tab\tinside", "a".repeat(1001)])
      assert.ok(passphraseProblem(bad), bad);
  });
});

function bmp(text: string): string {
  return `${Buffer.from(text, "utf16le").swap16().toString("hex")}0000`;
}
