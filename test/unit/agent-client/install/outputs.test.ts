import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createSecureContext } from "node:tls";
import { readInstalled } from "../../../../agent-client/install/installed.ts";
import { factsOf, type FileName, outputName, type OutputName } from "../../../../agent-client/install/material.ts";
import { digestOf, editionOf, readRecipe, renderOutputs } from "../../../../agent-client/install/outputs.ts";
import { checkSizes, PreflightError } from "../../../../agent-client/install/preflight.ts";
import { stage } from "../../../../agent-client/install/stage.ts";
import { switchTo } from "../../../../agent-client/install/switch.ts";
import type { Target } from "../../../../agent-client/install/target.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs, needsRoot } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeTestCa } from "../../../support/test-ca.ts";

function named(text: string): OutputName {
  const name = outputName(text);
  assert.ok(name !== null, text);
  return name;
}

describe("outputs", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("outputs");
  const pki = makeTestCa(directory);
  const material = makeMaterial(pki);
  let count = 0;

  const setUp = (changes: { files?: readonly FileName[]; mode?: number } = {}) => {
    const home = join(directory, `target-${(count += 1)}`);
    mkdirSync(home);
    const from = join(home, "gateway.toml.tmpl");
    const passphraseFile = join(home, "passphrase");
    writeFileSync(
      from,
      'serial = "{{ serial }}"\nkey = "{{ key.pem | json }}"\ndir = "{{ directory }}"\nid = "{{ identity }}"\n',
    );
    writeFileSync(passphraseFile, "changeit\nsecond line\n", { mode: 0o600 });
    const name = named("gateway.toml");
    const target: Target = {
      directory: join(home, "tls"),
      files: [...(changes.files ?? ["keystore.p12", "truststore.p12"]), name],
      owner: null,
      group: null,
      mode: changes.mode ?? 0o600,
      links: {},
      templates: [{ from, name }],
      stores: { passphraseFile, alias: "gateway" },
    };
    const install = async (stagedAt = Date.UTC(2026, 0, 1)): Promise<string> => {
      const recipe = await readRecipe(target);
      const facts = factsOf(material, { bundleVersion: 1, stagedAt, recipe: digestOf(recipe, material.key) });
      const { version } = await stage(target, await renderOutputs(target, recipe, material, "gateway-1"), facts);
      await switchTo(target, version);
      return version;
    };
    const file = (text: string): string => join(target.directory, "current", text);
    return { target, from, passphraseFile, install, file, name };
  };

  it(
    "shows nothing of a file to which a user who owns the template's directory links",
    {
      skip: needsRoot("to be led astray by another user"),
    },
    async () => {
      const { target, from, passphraseFile, name } = setUp({ files: ["key.pem"] });
      const home = join(from, "..");
      const secret = join(directory, "shadow");
      writeFileSync(secret, "root:not for others\n", { mode: 0o640 });
      chownSync(home, 65_534, 65_534);
      for (const path of [from, passphraseFile]) {
        rmSync(path);
        symlinkSync(secret, path);
      }
      const { stores, ...withTemplate } = target;
      await assert.rejects(readRecipe(withTemplate), /gateway\.toml\.tmpl can be led anywhere by uid 65534/);
      const { templates, ...withStores } = { ...target, stores, files: target.files.filter((file) => file !== name) };
      await assert.rejects(readRecipe(withStores as Target), /passphrase can be led anywhere by uid 65534/);
      assert.equal(templates?.length, 1);
    },
  );

  it("stages stores and a rendered template, all of them secret, and knows the set again", async () => {
    const { target, install, file } = setUp({ mode: 0o644 });
    await install();
    createSecureContext({ pfx: readFileSync(file("keystore.p12")), passphrase: "changeit" });
    const text = readFileSync(file("gateway.toml"), "utf8");
    const serial = new X509Certificate(material.leaf).serialNumber.toLowerCase();
    assert.match(text, new RegExp(`^serial = "${serial}"\nkey = "-----BEGIN PRIVATE KEY-----\\\\n`));
    assert.ok(text.endsWith(`dir = "${target.directory}/current"\nid = "gateway-1"\n`));
    const mode = (name: string): string => (statSync(file(name)).mode & 0o7777).toString(8);
    assert.deepEqual(["keystore.p12", "gateway.toml", "truststore.p12"].map(mode), ["640", "640", "644"]);
    const installed = await readInstalled(target);
    assert.deepEqual(installed?.problems, []);
    assert.equal(installed?.fingerprint, factsOf(material, { bundleVersion: 1, stagedAt: 0 }).fingerprint);
    assert.equal(installed?.keyMatches, true);
    assert.equal(installed?.recipe, digestOf(await readRecipe(target), material.key));
  });

  it("finds the same version again after a crash, and makes another one for another passphrase or template", async () => {
    const { install, from, passphraseFile, file } = setUp();
    const first = await install();
    assert.equal(await install(), first);
    // As long as the old one: the sizes of the files say nothing.
    writeFileSync(passphraseFile, "geandert", { mode: 0o600 });
    const second = await install();
    assert.equal(second, `${first}-2`);
    createSecureContext({ pfx: readFileSync(file("keystore.p12")), passphrase: "geandert" });
    writeFileSync(from, readFileSync(from, "utf8").replace("serial =", "number ="));
    assert.equal(await install(), `${first}-3`);
    assert.match(readFileSync(file("gateway.toml"), "utf8"), /^number = /);
  });

  it("writes no digest by which a passphrase could be tried", async () => {
    const { target, file, install } = setUp({ mode: 0o644 });
    await install();
    const recipe = await readRecipe(target);
    const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    assert.notEqual(digestOf(recipe, material.key), digestOf(recipe, other));
    assert.equal(digestOf(recipe, material.key), digestOf(await readRecipe(target), material.key));
    const meta = readFileSync(file("meta.json"), "utf8");
    assert.ok(meta.includes(digestOf(recipe, material.key) ?? "none"));
    assert.ok(!meta.includes(editionOf(recipe)), "the one that is not keyed stays in memory");
    assert.ok(!meta.includes("changeit"));
  });

  it("has no digest where only the set decides", async () => {
    const plain: Target = { directory: "/d", files: ["key.pem"], owner: null, group: null, mode: 0o600, links: {} };
    const recipe = await readRecipe(plain);
    assert.equal(digestOf(recipe, material.key), undefined);
    assert.deepEqual(recipe.needs, ["key.pem"]);
  });

  it("asks for what only a template shows", async () => {
    const { target, from } = setUp({ files: [] });
    writeFileSync(from, "{{ crl.pem }}\n");
    assert.ok((await readRecipe(target)).needs.includes("crl.pem"));
  });

  it("takes a passphrase as systemd's credentials and Kubernetes give it, and only when others cannot read it", async () => {
    const { target, passphraseFile } = setUp();
    const read = async (): Promise<string | undefined> => (await readRecipe(target)).stores?.passphrase;
    chmodSync(passphraseFile, 0o440);
    assert.equal(await read(), "changeit");
    const link = `${passphraseFile}.link`;
    symlinkSync(passphraseFile, link);
    const linked = { ...target, stores: { passphraseFile: link, alias: "a" } };
    assert.equal((await readRecipe(linked)).stores?.passphrase, "changeit");
    chmodSync(passphraseFile, 0o604);
    await assert.rejects(read(), /others can read the passphrase file .*chmod o= /);
    chmodSync(passphraseFile, 0o600);
    writeFileSync(passphraseFile, "\nchangeit");
    await assert.rejects(read(), /first line of the passphrase file .* is empty/);
    writeFileSync(passphraseFile, "a".repeat(5000));
    await assert.rejects(read(), /larger than 4096 bytes/);
    rmSync(passphraseFile);
    await assert.rejects(read(), /the passphrase file .* is not there: make it, or correct its path/);
    execFileSync("mkfifo", [passphraseFile]);
    await assert.rejects(read(), /is not a regular file/, "does not wait for a writer");
  });

  it("refuses files larger than the server can take, naming file and limit", () => {
    const files = new Map<FileName, Buffer>([
      ["key.pem", Buffer.alloc(100)],
      ["ca.pem", Buffer.alloc(301)],
    ]);
    checkSizes(files, undefined);
    checkSizes(files, 301);
    assert.throws(
      () => checkSizes(files, 300),
      (error) =>
        error instanceof PreflightError &&
        error.check === "size" &&
        /ca\.pem would have 301 bytes.*300/.test(error.message),
    );
  });

  it("names outputs only what can be a file of its own in a version directory", () => {
    for (const good of ["gateway.toml", "env", "A_1-b.json"]) assert.equal(outputName(good), good);
    for (const bad of ["", ".env", "a/b", "..", "key.pem", "meta.json", "keystore.p12", "a b", "x".repeat(101)])
      assert.equal(outputName(bad), null, bad);
  });
});
