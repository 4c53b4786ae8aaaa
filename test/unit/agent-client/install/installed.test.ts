import assert from "node:assert/strict";
import { chmodSync, chownSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readInstalled } from "../../../../agent-client/install/installed.ts";
import { factsOf, type FileName, pemFiles, type Material } from "../../../../agent-client/install/material.ts";
import { renderFiles } from "../../../../agent-client/install/render.ts";
import { stage } from "../../../../agent-client/install/stage.ts";
import { confirm, quarantine, switchTo } from "../../../../agent-client/install/switch.ts";
import type { Target } from "../../../../agent-client/install/target.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { keyPem, makeTestCa } from "../../../support/test-ca.ts";

describe("readInstalled", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("installed");
  const pki = makeTestCa(directory);
  const material = makeMaterial(pki);
  const facts = factsOf(material, { bundleVersion: 5, stagedAt: Date.now() });
  let count = 0;

  const install = async (
    files: readonly FileName[] = pemFiles,
    from: Material = material,
  ): Promise<{ target: Target; path(file: string): string; version: string }> => {
    count += 1;
    const home = join(directory, `target-${count}`);
    const target: Target = { directory: home, files, owner: null, group: null, mode: 0o600, links: {} };
    const { version } = await stage(target, renderFiles(from, files), facts);
    await switchTo(target, version);
    return { target, version, path: (file) => join(home, "versions", version, file) };
  };
  const problemsOf = async (target: Target): Promise<string> => {
    const installed = await readInstalled(target);
    assert.equal(installed?.complete, installed?.problems.length === 0);
    return installed?.problems.join("; ") ?? "nothing installed";
  };

  it("reads back what was installed", async () => {
    const { target, version } = await install();
    const { fingerprint, notAfter, bundleVersion, crlNumbers } = facts;
    const expected = { version, fingerprint, notAfter, bundleVersion, crlNumbers, keyMatches: true, complete: true };
    assert.deepEqual(await readInstalled(target), { ...expected, problems: [], confirmed: false, quarantined: false });
    await confirm(target, version);
    await quarantine(target, version, "test");
    assert.deepEqual(await readInstalled(target), { ...expected, problems: [], confirmed: true, quarantined: true });
  });

  it("is null where nothing is, and where the link leads nowhere", async () => {
    const target: Target = { ...(await install()).target, directory: join(directory, "empty") };
    assert.equal(await readInstalled(target), null);
    const gone = await install();
    rmSync(join(gone.target.directory, "versions"), { recursive: true });
    assert.equal(await readInstalled(gone.target), null);
  });

  it("sees a key that is not the leaf's, in key.pem and in combined.pem", async () => {
    const other = keyPem(makeMaterial(pki).key);
    const { target, path } = await install(["key.pem", "cert.pem"]);
    writeFileSync(path("key.pem"), other);
    assert.equal((await readInstalled(target))?.keyMatches, false);
    assert.match(await problemsOf(target), /key in key\.pem does not belong/);
    const combined = await install(["combined.pem"]);
    assert.equal(await problemsOf(combined.target), "");
    const text = readFileSync(combined.path("combined.pem"), "utf8");
    writeFileSync(combined.path("combined.pem"), other + text.slice(text.indexOf("-----BEGIN CERT")));
    assert.equal((await readInstalled(combined.target))?.keyMatches, false);
  });

  it("sees leaf and key under the names of a TLS Secret", async () => {
    const { target, path } = await install(["tls.crt", "tls.key", "ca.crt"]);
    assert.equal(await problemsOf(target), "");
    writeFileSync(path("tls.key"), keyPem(makeMaterial(pki).key));
    assert.equal((await readInstalled(target))?.keyMatches, false);
    chmodSync(path("tls.key"), 0o644);
    assert.match(await problemsOf(target), /tls\.key has mode 0644 instead of 0600/);
    const other = makeMaterial(pki);
    writeFileSync(path("tls.crt"), renderFiles(other, ["tls.crt"]).get("tls.crt") ?? "");
    assert.notEqual((await readInstalled(target))?.fingerprint, facts.fingerprint);
  });

  it("tells the leaf that is on disk, not the one of meta.json", async () => {
    const { target, path } = await install(["cert.pem"]);
    const other = makeMaterial(pki);
    writeFileSync(path("cert.pem"), renderFiles(other, ["cert.pem"]).get("cert.pem") ?? "");
    const installed = await readInstalled(target);
    assert.notEqual(installed?.fingerprint, facts.fingerprint);
    assert.match(await problemsOf(target), /cert\.pem was altered.*not the one of meta\.json/);
  });

  it("names each file that is missing, altered, too open or another's", async () => {
    const { target, path } = await install();
    rmSync(path("crl.pem"));
    writeFileSync(path("chain.pem"), "");
    chmodSync(path("key.pem"), 0o644);
    const problems = await problemsOf(target);
    assert.match(problems, /crl\.pem is missing/);
    assert.match(problems, /chain\.pem was altered/);
    assert.match(problems, /key\.pem has mode 0644 instead of 0600/);
    if (process.geteuid?.() === 0) {
      chownSync(path("key.pem"), 65_534, 65_534);
      assert.match(await problemsOf(target), /key\.pem belongs to 65534:65534/);
    }
  });

  it("reads no file that the server's user has made larger than it was", async () => {
    const { target, path } = await install();
    truncateSync(path("crl.pem"), 3 * 1024 ** 3);
    assert.equal(await problemsOf(target), "crl.pem was altered");
    for (const file of ["cert.pem", "key.pem", "meta.json"] as const) truncateSync(path(file), 3 * 1024 ** 3);
    assert.equal(await readInstalled(target), null, "nothing usable: it is installed anew");
  });

  it("is incomplete when the configuration asks for more, or for another mode", async () => {
    const { target } = await install(["key.pem", "cert.pem"]);
    assert.match(await problemsOf({ ...target, files: ["key.pem", "cert.pem", "crl.pem"] }), /crl\.pem is not part/);
    assert.match(await problemsOf({ ...target, mode: 0o640 }), /cert\.pem has mode 0600 instead of 0640/);
    assert.equal(await problemsOf({ ...target, files: ["cert.pem"] }), "");
  });

  it("knows the leaf from meta.json where only trust is installed", async () => {
    const { target } = await install(["ca.pem", "crl.pem"]);
    const installed = await readInstalled(target);
    assert.deepEqual(
      [installed?.fingerprint, installed?.keyMatches, installed?.complete],
      [facts.fingerprint, true, true],
    );
  });

  it("survives a meta.json that is gone or nonsense", async () => {
    const { target, path } = await install();
    for (const text of ["", "{", "[]", '{"fingerprint":1}']) {
      writeFileSync(path("meta.json"), text);
      const installed = await readInstalled(target);
      assert.deepEqual(
        [installed?.fingerprint, installed?.bundleVersion, installed?.complete],
        [facts.fingerprint, 0, false],
      );
    }
    rmSync(path("meta.json"));
    assert.match(await problemsOf(target), /meta\.json of version .* is missing/);
  });

  it("does not follow a file that was replaced by a link", async () => {
    const { target, path } = await install();
    rmSync(path("ca.pem"));
    symlinkSync("/etc/passwd", path("ca.pem"));
    assert.match(await problemsOf(target), /ca\.pem is not a regular file/);
  });
});
