import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { defaultProfiles, type LeafProfile } from "../../server/ca/profile.ts";
import { issueLeaf, makeCrl, makeEngineCa } from "../support/engine-ca.ts";
import { openSsl } from "../support/openssl.ts";
import { needs } from "../support/programs.ts";

// What openssl shows of each kind of certificate, as files a reviewer can read. `UPDATE_GOLDEN=1 npm test -- <this file>` writes them anew.

const skip = needs("openssl");
const folder = join(import.meta.dirname, "..", "fixtures", "golden");
const now = Date.parse("2026-11-20T12:34:56.789Z");
const serial = "5a".repeat(16);
const ca = await makeEngineCa({ now });
const openssl = openSsl();
after(() => openssl[Symbol.dispose]());
const names = {
  dns: ["gateway.claw.internal", "*.gw.claw.internal"],
  ip: ["10.0.1.42", "2001:db8::1"],
  uri: ["spiffe://claw.internal/gateway-1"],
  email: ["ops@claw.internal"],
};

/**
 * What differs in every run (keys, signatures, and what is derived from keys) is masked by its length; what differs
 * between versions of openssl (blanks around `=`, blank lines) is made the same.
 */
function masked(text: string): string {
  const shown = serial.replace(/..(?=.)/g, "$&:");
  return (
    text
      .replace(/^(\s+)((?:[0-9a-f]{2}:)+(?:[0-9a-f]{2})?)$/gim, (line: string, indent: string, hex: string) =>
        hex === shown ? line : `${indent}<${hex.split(":").filter(Boolean).length} octets>`,
      )
      // The last line of a long value can be a single octet.
      .replace(/(<\d+ octets>\n)(\s+(<\d+ octets>|[0-9a-f]{2})\n)+/g, "<octets>\n")
      .replace(/\/[0-9a-f]{16}\.(crl|crt)/g, "/<issuer id>.$1")
      .replace(/(Root|Issuing CA) [0-9a-f]{6}/g, "$1 <key id>")
      .replace(/^(\s+Serial Number:\n\s+)<16 octets>/gm, "$1<random serial>")
      .replace(/^(\s*(?:Subject|Issuer):.*)$/gm, (line: string) => line.replaceAll(" = ", "="))
      .replace(/[ \t]+$/gm, "")
      .replace(/\n{2,}/g, "\n")
  );
}

function compare(name: string, text: string): void {
  const file = join(folder, `${name}.txt`);
  if (process.env["UPDATE_GOLDEN"] !== undefined) writeFileSync(file, masked(text));
  assert.equal(masked(text), readFileSync(file, "utf8"));
}

function showCertificate(der: Uint8Array): string {
  return openssl.run(["x509", "-noout", "-text", "-in", openssl.pem("shown.pem", "CERTIFICATE", der)]);
}

for (const profile of Object.values<LeafProfile>(defaultProfiles)) {
  test(`a leaf of profile ${profile.name} looks as documented`, { skip }, async () => {
    const { der } = await issueLeaf(ca, { profile, serial, names: profile.name === "operator" ? noNames : names });
    compare(`leaf-${profile.name}`, showCertificate(der));
  });
}

test("a gateway's leaf with an RSA key looks as documented", { skip }, async () => {
  const { der } = await issueLeaf(ca, {
    profile: defaultProfiles.gateway,
    serial,
    names,
    key: await generateKey("rsa-3072"),
  });
  compare("leaf-gateway-rsa", showCertificate(der));
});

test("root and intermediate look as documented", { skip }, () => {
  compare("root", showCertificate(ca.root.certificate));
  compare("intermediate", showCertificate(ca.issuer.certificate));
});

test("a CRL looks as documented, full and empty", { skip }, () => {
  const revoked = [
    { serial, revokedAt: now - 60_000, reason: "keyCompromise" },
    { serial: `ff${"00".repeat(15)}`, revokedAt: now, reason: "unspecified" },
  ] as const;
  const show = (der: Uint8Array): string =>
    openssl.run(["crl", "-noout", "-text", "-in", openssl.pem("shown.crl", "X509 CRL", der)]);
  compare("crl", show(makeCrl(ca.issuer, now, revoked, 42)));
  compare("crl-empty", show(makeCrl(ca.root, now, [], 1)));
});
