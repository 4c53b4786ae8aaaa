import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, test } from "node:test";
import { generateKey, keyAlgorithms } from "@newleaf/shared/key-algorithm";
import { createTwin } from "../../server/ca/ceremony.ts";
import type { CrlEntry } from "../../server/ca/crl.ts";
import { defaultProfiles } from "../../server/ca/profile.ts";
import { newSerial } from "../../server/ca/serial.ts";
import { issueLeaf, makeCrl, makeEngineCa, random16, type EngineCa } from "../support/engine-ca.ts";
import { openSsl } from "../support/openssl.ts";
import { needs } from "../support/programs.ts";

const skip = needs("openssl");
const day = 86_400_000;
const ca = await makeEngineCa();
const openssl = openSsl();
after(() => openssl[Symbol.dispose]());
const names = {
  dns: ["gateway.claw.internal", "*.gw.claw.internal"],
  ip: ["10.0.1.42", "2001:db8::1"],
  uri: ["spiffe://claw/g"],
  email: ["ops@claw.internal"],
};

interface Judgement {
  readonly purpose?: "sslclient" | "sslserver";
  readonly at?: number;
  readonly revoked?: readonly CrlEntry[];
  readonly options?: readonly string[];
}

/** `openssl verify` as strict as it can be, with a CRL demanded of every CA. */
function verify(
  authority: EngineCa,
  leaf: Uint8Array,
  { purpose = "sslclient", at, revoked = [], options = [] }: Judgement = {},
): { ok: boolean; output: string } {
  const crls = [
    makeCrl(authority.root, authority.now - 1000),
    makeCrl(authority.issuer, authority.now - 1000, revoked),
  ];
  return openssl.ask([
    "verify",
    "-x509_strict",
    "-check_ss_sig",
    "-crl_check_all",
    "-policy_check",
    "-purpose",
    purpose,
    "-auth_level",
    "2",
    ...(at === undefined ? [] : ["-attime", String(Math.floor(at / 1000))]),
    "-CAfile",
    openssl.pem("root.pem", "CERTIFICATE", authority.root.certificate),
    "-untrusted",
    openssl.pem("intermediate.pem", "CERTIFICATE", authority.issuer.certificate),
    "-CRLfile",
    openssl.pem("crls.pem", "X509 CRL", ...crls),
    ...options,
    openssl.pem("leaf.pem", "CERTIFICATE", leaf),
  ]);
}

function accepted({ ok, output }: { ok: boolean; output: string }): void {
  assert.ok(ok && output.includes(": OK"), output);
}

function rejected({ ok, output }: { ok: boolean; output: string }, why: RegExp): void {
  assert.ok(!ok, output);
  assert.match(output, why);
}

const purposes = {
  agent: [true, false],
  gateway: [true, true],
  operator: [true, false],
  service: [false, true],
} as const;
for (const [name, [client, server]] of Object.entries(purposes)) {
  test(`openssl takes a leaf of profile ${name} for exactly its purposes`, { skip }, async () => {
    const { der } = await issueLeaf(ca, { profile: defaultProfiles[name as keyof typeof purposes], names });
    for (const [purpose, good] of [
      ["sslclient", client],
      ["sslserver", server],
    ] as const) {
      const judgement = verify(ca, der, { purpose });
      if (good) accepted(judgement);
      else rejected(judgement, /unsupported certificate purpose|unsuitable certificate purpose/);
    }
  });
}

for (const algorithm of keyAlgorithms) {
  test(`openssl accepts a leaf with a key of ${algorithm}`, { skip }, async () => {
    const { der } = await issueLeaf(ca, { key: await generateKey(algorithm), profile: defaultProfiles.gateway, names });
    accepted(verify(ca, der, { purpose: "sslserver" }));
  });
}

test("openssl finds the names in the leaf, and no others", { skip }, async () => {
  const { der } = await issueLeaf(ca, { profile: defaultProfiles.gateway, names });
  for (const options of [
    ["-verify_hostname", "gateway.claw.internal"],
    ["-verify_hostname", "a.gw.claw.internal"],
    ["-verify_ip", "10.0.1.42"],
    ["-verify_ip", "2001:db8::1"],
    ["-verify_email", "ops@claw.internal"],
  ]) {
    accepted(verify(ca, der, { options }));
  }
  for (const options of [
    ["-verify_hostname", "other.claw.internal"],
    ["-verify_hostname", "gateway-1"],
    ["-verify_ip", "10.0.1.43"],
  ])
    rejected(verify(ca, der, { options }), /mismatch/);
});

test("openssl accepts a leaf without names", { skip }, async () => accepted(verify(ca, (await issueLeaf(ca)).der)));

test("openssl rejects a leaf before its notBefore and after its notAfter", { skip }, async () => {
  const { der, prepared } = await issueLeaf(ca, { profile: { ...defaultProfiles.agent, validity: 10 * day } });
  // openssl counts the last second as past, which RFC 5280 §4.1.2.5 does not.
  accepted(verify(ca, der, { at: prepared.notAfter - 1000 }));
  rejected(verify(ca, der, { at: prepared.notAfter + 1000 }), /certificate has expired/);
  rejected(verify(ca, der, { at: prepared.notBefore - 1000 }), /not yet valid/);
});

for (const reason of ["unspecified", "keyCompromise", "superseded", "certificateHold", "privilegeWithdrawn"] as const) {
  test(`openssl rejects a leaf that is on the CRL for ${reason}`, { skip }, async () => {
    const { der, prepared } = await issueLeaf(ca);
    accepted(verify(ca, der, { revoked: [{ serial: newSerial(random16()), revokedAt: ca.now, reason }] }));
    rejected(
      verify(ca, der, { revoked: [{ serial: prepared.serial, revokedAt: ca.now, reason }] }),
      /certificate revoked/,
    );
  });
}

test("serials with the highest bit set are revoked under the serial they have", { skip }, async () => {
  for (const serial of [`ff${"ab".repeat(15)}`, `80${"00".repeat(15)}`, `7f${"ff".repeat(19)}`]) {
    const { der } = await issueLeaf(ca, { serial });
    rejected(
      verify(ca, der, { revoked: [{ serial, revokedAt: ca.now, reason: "superseded" }] }),
      /certificate revoked/,
    );
  }
});

test("a leaf of another CA with the same names for everything is rejected", { skip }, async () => {
  const other = await makeEngineCa();
  rejected(
    verify(ca, (await issueLeaf(other)).der),
    /unable to get local issuer certificate|unable to get issuer certificate/,
  );
});

test("openssl accepts chains of RSA and of P-384 throughout", { skip }, async () => {
  for (const algorithm of ["rsa-3072", "ecdsa-p384"] as const) {
    const authority = await makeEngineCa({ rootKey: algorithm, issuerKey: algorithm });
    const { der, prepared } = await issueLeaf(authority, { names });
    accepted(verify(authority, der));
    rejected(
      verify(authority, der, { revoked: [{ serial: prepared.serial, revokedAt: ca.now, reason: "superseded" }] }),
      /certificate revoked/,
    );
  }
});

test("openssl accepts dates beyond 2049", { skip }, async () => {
  const now = Date.UTC(2049, 11, 20, 12);
  const authority = await makeEngineCa({ now });
  const { der, prepared } = await issueLeaf(authority);
  assert.equal(new Date(prepared.notAfter).getUTCFullYear(), 2050);
  accepted(verify(authority, der, { at: now }));
});

test("the twin is a trust anchor for leaves of its key", { skip }, async () => {
  const twin = await createTwin({ certificate: ca.issuer.certificate, key: ca.issuerKey, random: random16() });
  const anchor = openssl.pem("twin.pem", "CERTIFICATE", twin);
  const { der } = await issueLeaf(ca);
  accepted(
    openssl.ask([
      "verify",
      "-x509_strict",
      "-check_ss_sig",
      "-purpose",
      "sslclient",
      "-CAfile",
      anchor,
      openssl.pem("leaf.pem", "CERTIFICATE", der),
    ]),
  );
});

for (const count of [0, 1, 10_000]) {
  test(`openssl verifies a CRL of ${count} entries and reads each`, { skip }, () => {
    const revoked = Array.from({ length: count }, (_, at): CrlEntry => ({
      serial: newSerial(randomBytes(16)),
      revokedAt: ca.now - at * 1000,
      reason: at % 3 === 0 ? "keyCompromise" : "superseded",
    }));
    const file = openssl.pem("one.pem", "X509 CRL", makeCrl(ca.issuer, ca.now, revoked, 4711));
    const issuer = openssl.pem("intermediate.pem", "CERTIFICATE", ca.issuer.certificate);
    const { ok, output } = openssl.ask(["crl", "-in", file, "-CAfile", issuer, "-verify", "-noout"]);
    assert.ok(ok, output);
    const text = openssl.run(["crl", "-in", file, "-noout", "-text"]);
    assert.equal(text.match(/Serial Number:/g)?.length ?? 0, count);
    assert.match(text, /X509v3 CRL Number: \n\s+4711/);
    assert.equal(text.includes("No Revoked Certificates"), count === 0);
    const wrong = openssl.pem("root.pem", "CERTIFICATE", ca.root.certificate);
    assert.match(
      openssl.ask(["crl", "-in", file, "-CAfile", wrong, "-verify", "-noout"]).output,
      /verify failure|error getting CRL issuer/i,
    );
  });
}
