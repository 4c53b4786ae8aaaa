/** Which roots and CRLs an agent believes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { X509Certificate } from "node:crypto";
import { pemEncode } from "@newleaf/shared/pem";
import {
  acceptBundle,
  acceptCrl,
  type BundleQuestion,
  isListed,
  readRoots,
} from "../../../../agent-client/trust/bundle.ts";
import { authorityId } from "../../../../agent-client/install/material.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeRoot, makeTestCa, type TestAuthority } from "../../../support/test-ca.ts";

const skip = needs("openssl");
const directory = temporaryDirectory("bundle");
let made = 0;
const fresh = (): string => join(directory, String((made += 1)));

const pem = (...list: readonly Buffer[]): string => list.map((der) => pemEncode("CERTIFICATE", der)).join("");
const pems = (...list: readonly Buffer[]): string[] => list.map((der) => pem(der));
const issuersOf = (...list: readonly TestAuthority[]) =>
  list.map(({ certificate }) => ({ id: authorityId(certificate), certificate: pem(certificate) }));

function question(
  change: Partial<BundleQuestion["bundle"]>,
  trusted: readonly Buffer[],
  heldVersion = 0,
): BundleQuestion {
  const bundle = { version: 2, roots: [], crossCertificates: [], issuers: [], ...change };
  return { bundle, trusted, heldVersion, now: Date.now() };
}

test("a bundle of the root that is trusted is accepted, with its issuing CAs", { skip }, () => {
  const { root, intermediate } = makeTestCa(fresh());
  const given = question({ roots: pems(root.certificate), issuers: issuersOf(intermediate) }, [root.certificate], 2);
  const accepted = acceptBundle(given);
  assert.equal(accepted.version, 2, "the same version again is no step back");
  assert.deepEqual(accepted.roots, [root.certificate]);
  assert.deepEqual(accepted.issuers, [intermediate.certificate]);
});

test("a lower version is refused", { skip }, () => {
  const { root } = makeTestCa(fresh());
  assert.throws(
    () => acceptBundle(question({ roots: pems(root.certificate) }, [root.certificate], 3)),
    /versions only rise/,
  );
});

test("a root for which nobody vouches is refused, and with it the whole bundle", { skip }, () => {
  const { root } = makeTestCa(fresh());
  const stranger = makeRoot(fresh(), "Stranger");
  const given = question({ roots: pems(root.certificate, stranger.certificate) }, [root.certificate]);
  assert.throws(() => acceptBundle(given), /brings the root CN=Stranger .* for which no trusted root vouches/);
  assert.throws(
    () => acceptBundle(question({ roots: pems(stranger.certificate) }, [root.certificate])),
    /no trusted root vouches/,
  );
});

test(
  "a root that a trusted root has cross-signed is accepted, also when the old one is dropped in the same bundle",
  { skip },
  () => {
    const old = makeRoot(fresh(), "Old Root");
    const next = makeRoot(fresh(), "Next Root");
    const crossCertificates = pems(old.crossSign(next));
    for (const roots of [pems(old.certificate, next.certificate), pems(next.certificate)]) {
      const accepted = acceptBundle(question({ roots, crossCertificates }, [old.certificate]));
      assert.equal(accepted.roots.length, roots.length);
      assert.ok(accepted.roots.some((der) => der.equals(next.certificate)));
    }
  },
);

test("trust passes along a chain of cross-certificates", { skip }, () => {
  const [a, b, c] = [makeRoot(fresh(), "A"), makeRoot(fresh(), "B"), makeRoot(fresh(), "C")];
  const crossCertificates = pems(b.crossSign(c), a.crossSign(b));
  const accepted = acceptBundle(
    question({ roots: pems(c.certificate, b.certificate), crossCertificates }, [a.certificate]),
  );
  assert.equal(accepted.roots.length, 2);
});

test("a cross-certificate vouches for one key only, and only when a trusted root signed it", { skip }, () => {
  const old = makeRoot(fresh(), "Old Root");
  const next = makeRoot(fresh(), "Next Root");
  const imposter = makeRoot(fresh(), "Next Root");
  const stranger = makeRoot(fresh(), "Old Root");
  const roots = pems(imposter.certificate);
  assert.throws(
    () => acceptBundle(question({ roots, crossCertificates: pems(old.crossSign(next)) }, [old.certificate])),
    /vouches/,
    "another key",
  );
  const bySameName = pems(stranger.crossSign(imposter));
  assert.throws(
    () => acceptBundle(question({ roots, crossCertificates: bySameName }, [old.certificate])),
    /vouches/,
    "another signer of that name",
  );
  const leaf = pems(old.issue({ commonName: "Next Root", key: imposter.key }).certificate);
  assert.throws(
    () => acceptBundle(question({ roots, crossCertificates: leaf }, [old.certificate])),
    /vouches/,
    "a leaf is no CA",
  );
});

test("an expired cross-certificate vouches for nobody", { skip }, () => {
  const old = makeRoot(fresh(), "Old Root");
  const next = makeRoot(fresh(), "Next Root");
  const cross = old.crossSign(next);
  const given = question({ roots: pems(next.certificate), crossCertificates: pems(cross) }, [old.certificate]);
  const after = new X509Certificate(cross).validToDate.getTime() + 1000;
  assert.throws(() => acceptBundle({ ...given, now: after }), /vouches/);
});

test("an issuer that is not under a root of the bundle is refused; so is a leaf, and a wrong id", { skip }, () => {
  const { root, intermediate } = makeTestCa(fresh());
  const other = makeTestCa(fresh());
  const roots = pems(root.certificate);
  const trusted = [root.certificate];
  assert.throws(
    () => acceptBundle(question({ roots, issuers: issuersOf(other.intermediate) }, trusted)),
    /is not under one of its roots/,
  );
  const leaf = intermediate.issue().certificate;
  const issuers = [...issuersOf(intermediate), { id: authorityId(leaf), certificate: pem(leaf) }];
  assert.throws(() => acceptBundle(question({ roots, issuers }, trusted)), /is not under one of its roots/);
  const misnamed = [{ id: "0000000000000000", certificate: pem(intermediate.certificate) }];
  assert.throws(() => acceptBundle(question({ roots, issuers: misnamed }, trusted)), /another id/);
});

test("a bundle without roots, or larger than any should be, is refused", { skip }, () => {
  const { root } = makeTestCa(fresh());
  assert.throws(() => acceptBundle(question({}, [root.certificate])), /no root/);
  const many = Array.from({ length: 17 }, () => pem(root.certificate));
  assert.throws(() => acceptBundle(question({ roots: many }, [root.certificate])), /larger/);
});

test("a CRL is from its CA, its number never falls, and it is not from the future", { skip }, () => {
  const { root, intermediate } = makeTestCa(fresh());
  const now = Date.now();
  const crl = intermediate.crl({ number: 7, revoked: ["0a1b"] });
  assert.equal(acceptCrl(crl, intermediate.certificate, 7, now).number, 7);
  assert.throws(() => acceptCrl(crl, root.certificate, null, now), /not signed by/);
  assert.throws(
    () => acceptCrl(crl, intermediate.certificate, 8, now),
    /numbers only rise; if the service was restored from a backup, run newleaf crl publish/,
  );
  assert.throws(() => acceptCrl(crl, intermediate.certificate, null, now - 3_600_000), /from the future/);
  const { nextUpdate } = acceptCrl(crl, intermediate.certificate, null, now);
  assert.throws(
    () => acceptCrl(crl, intermediate.certificate, 7, nextUpdate + 1),
    /has expired at .*the one held stays/,
  );
  assert.throws(() => acceptCrl(Buffer.from("nonsense"), intermediate.certificate, null, now), { name: "BundleError" });
  assert.equal(isListed(crl, "0a1b"), true);
  assert.equal(isListed(crl, "0a"), false);
});

test("CRLs that revoke the same have one digest, whatever their number", { skip }, () => {
  const { intermediate } = makeTestCa(fresh());
  const revoked = (number: number, serials: readonly string[]): string =>
    acceptCrl(intermediate.crl({ number, revoked: serials }), intermediate.certificate, null, Date.now()).revoked;
  assert.equal(revoked(1, ["0a", "0b"]), revoked(2, ["0b", "0a"]));
  assert.notEqual(revoked(1, ["0a"]), revoked(2, ["0a", "0b"]));
});

test("readRoots takes roots only", { skip }, () => {
  const { root, intermediate } = makeTestCa(fresh());
  assert.deepEqual(readRoots(`# ours\n${pem(root.certificate)}`, "roots.pem"), [root.certificate]);
  assert.throws(
    () => readRoots(pem(root.certificate, intermediate.certificate), "roots.pem"),
    /roots.pem holds a certificate that is not a root CA/,
  );
  assert.throws(() => readRoots("", "roots.pem"), /holds no certificate/);
  assert.throws(() => readRoots("-----BEGIN CERTIFICATE-----\n", "roots.pem"), /is not PEM/);
});
