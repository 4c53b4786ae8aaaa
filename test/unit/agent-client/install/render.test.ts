import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { pemDecode } from "@newleaf/shared/pem";
import { authorityId, factsOf, pemFiles } from "../../../../agent-client/install/material.ts";
import { renderFiles } from "../../../../agent-client/install/render.ts";
import { fingerprint } from "../../../../shared/fingerprint.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeTestCa } from "../../../support/test-ca.ts";

describe("renderFiles", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("render");
  const pki = makeTestCa(directory);
  const material = makeMaterial(pki, { crl: { number: 7 } });
  const files = renderFiles(material, pemFiles);
  const text = (name: (typeof pemFiles)[number]): string => files.get(name)?.toString("utf8") ?? "";
  const certificates = (name: (typeof pemFiles)[number]): Buffer[] => pemDecode(text(name), "CERTIFICATE");

  it("writes each file as the contract says, leaf first", () => {
    assert.deepEqual(certificates("cert.pem"), [material.leaf]);
    assert.deepEqual(certificates("chain.pem"), [pki.intermediate.certificate]);
    assert.deepEqual(certificates("fullchain.pem"), [material.leaf, pki.intermediate.certificate]);
    assert.deepEqual(certificates("ca.pem"), [pki.root.certificate, pki.intermediate.certificate]);
    assert.deepEqual(pemDecode(text("crl.pem"), "X509 CRL"), material.crls);
    assert.equal(text("combined.pem"), text("key.pem") + text("fullchain.pem"));
    const secret = [text("tls.crt"), text("tls.key"), text("ca.crt")];
    assert.deepEqual(secret, [text("fullchain.pem"), text("key.pem"), text("ca.pem")]);
    assert.ok(new X509Certificate(material.leaf).checkPrivateKey(createPrivateKey(text("key.pem"))));
  });

  it("writes only what is asked for, and the key into no other file", () => {
    assert.deepEqual([...renderFiles(material, ["ca.pem"]).keys()], ["ca.pem"]);
    for (const name of pemFiles) {
      assert.equal(text(name).includes("PRIVATE KEY"), ["key.pem", "combined.pem", "tls.key"].includes(name), name);
    }
  });

  it("writes only the newest CRL of each CA", () => {
    const newer = pki.intermediate.crl({ number: 9 });
    const older = pki.intermediate.crl({ number: 8 });
    const [rootCrl, first] = material.crls as [Buffer, Buffer];
    const rendered = renderFiles({ ...material, crls: [first, newer, rootCrl, older] }, ["crl.pem"]);
    assert.deepEqual(pemDecode(rendered.get("crl.pem")?.toString() ?? "", "X509 CRL"), [newer, rootCrl]);
  });

  it("is what openssl verifies with", () => {
    for (const [name, data] of files) writeFileSync(join(directory, name.replace(".pem", ".txt")), data);
    const path = (name: string): string => join(directory, `${name}.txt`);
    const args = [
      "verify",
      "-x509_strict",
      "-crl_check_all",
      "-CRLfile",
      path("crl"),
      "-CAfile",
      path("ca"),
      path("cert"),
    ];
    assert.match(execFileSync("openssl", args).toString(), /OK/);
  });

  it("factsOf names the leaf and the number of each CA's CRL", () => {
    const facts = factsOf(material, { bundleVersion: 3, stagedAt: 5 });
    assert.equal(facts.fingerprint, fingerprint(material.leaf));
    assert.equal(facts.notAfter, new X509Certificate(material.leaf).validToDate.getTime());
    const [root, intermediate] = [authorityId(pki.root.certificate), authorityId(pki.intermediate.certificate)];
    assert.deepEqual(facts.crlNumbers, { [root]: 1, [intermediate]: 7 });
    assert.deepEqual([facts.bundleVersion, facts.stagedAt], [3, 5]);
  });
});
