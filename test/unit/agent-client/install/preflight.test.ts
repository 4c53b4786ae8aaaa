import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { describe, it } from "node:test";
import { authorityId, type Material } from "../../../../agent-client/install/material.ts";
import {
  preflight,
  type PreflightCheck,
  PreflightError,
  type PreflightOptions,
} from "../../../../agent-client/install/preflight.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeRoot, makeTestCa } from "../../../support/test-ca.ts";

const minute = 60_000;
const day = 24 * 60 * minute;

describe("preflight", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("preflight");
  const pki = makeTestCa(directory);
  const good = makeMaterial(pki, { leaf: { names: ["DNS:gateway.test", "DNS:*.wild.test", "IP:127.0.0.1"] } });
  const now = Date.now();

  const options = (changes: Partial<PreflightOptions> = {}): PreflightOptions => ({
    now,
    serverNames: ["gateway.test"],
    trustedRoots: [pki.root.certificate],
    ...changes,
  });
  const refuses = (
    check: PreflightCheck,
    says: RegExp,
    material: Material,
    changes?: Partial<PreflightOptions>,
  ): void => {
    assert.throws(
      () => preflight(material, options(changes)),
      (error) => error instanceof PreflightError && error.check === check && says.test(error.message),
      `${check} ${String(says)}`,
    );
  };

  it("accepts a good set, its names, wildcards and addresses", () => {
    preflight(good, options({ serverNames: ["gateway.test", "a.wild.test", "127.0.0.1"] }));
    preflight(good, options({ serverNames: [] }));
  });

  it("refuses a key that is another's, and a public one", () => {
    const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
    refuses("key", /does not belong/, { ...good, key: other.privateKey });
    refuses("key", /does not belong/, { ...good, key: other.publicKey });
  });

  it("refuses a CA certificate or junk in the leaf's place", () => {
    refuses("leaf", /leaf comes first/, { ...good, leaf: pki.intermediate.certificate, key: pki.intermediate.key });
    refuses("leaf", /cannot be read/, { ...good, leaf: Buffer.from("junk") });
  });

  it("refuses a leaf that is expired or not yet valid, and allows for skew", () => {
    refuses("dates", /expired/, good, { now: now + 31 * day });
    const future = makeMaterial(pki, { leaf: { notBefore: now + 4 * minute, names: ["DNS:gateway.test"] } });
    preflight(future, options());
    refuses("dates", /valid only from/, future, { skewMs: 3 * minute });
  });

  it("refuses names that the leaf does not cover, the CN among them", () => {
    refuses("names", /"other\.test".*gateway\.test/, good, { serverNames: ["gateway.test", "other.test"] });
    refuses("names", /10\.0\.0\.1/, good, { serverNames: ["10.0.0.1"] });
    refuses("names", /deep\.a\.wild/, good, { serverNames: ["deep.a.wild.test"] });
    const nameless = makeMaterial(pki, { leaf: { commonName: "gateway.test", names: [] } });
    refuses("names", /none/, nameless);
  });

  it("refuses a chain that is missing, in the wrong order, or another CA's", () => {
    refuses("chain", /ends at "CN=gateway-1"/, { ...good, chain: [] });
    refuses("chain", /cannot stand above/, { ...good, chain: [pki.root.certificate, pki.intermediate.certificate] });
    const impostor = makeTestCa(join(directory, "impostor"));
    refuses("chain", /key ids|signature/, { ...good, chain: [impostor.intermediate.certificate] });
  });

  it("refuses roots that the agent does not trust, even beside a good one", () => {
    const stranger = makeRoot(join(directory, "stranger"), "Stranger");
    refuses("roots", /not one the agent trusts/, { ...good, roots: [pki.root.certificate, stranger.certificate] });
    refuses("chain", /no root/, { ...good, roots: [] });
  });

  it("refuses an expired intermediate", () => {
    const short = pki.root.subordinate("Short", { notAfter: now + 10 * day });
    const material = makeMaterial({ root: pki.root, intermediate: short }, { leaf: { names: ["DNS:gateway.test"] } });
    preflight(material, options());
    refuses("chain", /CN=Short.*expired/, material, { now: now + 11 * day });
  });

  it("refuses a CRL that is missing for one CA of the chain, or all of them", () => {
    const [rootCrl, crl] = good.crls as [Buffer, Buffer];
    refuses("crl", /no CRL/, { ...good, crls: [] });
    refuses("crl", new RegExp(authorityId(pki.root.certificate)), { ...good, crls: [crl] });
    refuses("crl", new RegExp(authorityId(pki.intermediate.certificate)), { ...good, crls: [rootCrl] });
    refuses("crl", /cannot be read/, { ...good, crls: [rootCrl, Buffer.from("3000", "hex")] });
  });

  it("refuses a CRL of nobody we know, or with a broken signature", () => {
    const [rootCrl, crl] = good.crls as [Buffer, Buffer];
    const stranger = makeRoot(join(directory, "stranger-crl"), "Stranger");
    refuses("crl", /signed by no CA/, { ...good, crls: [rootCrl, crl, stranger.crl()] });
    const broken = Buffer.from(crl);
    broken.writeUInt8((broken.at(-1) ?? 0) ^ 1, broken.length - 1);
    refuses("crl", /signed by no CA/, { ...good, crls: [rootCrl, broken] });
  });

  it("refuses a CRL that is about to expire, or is from the future", () => {
    const [rootCrl] = good.crls as [Buffer];
    const ending = pki.intermediate.crl({ nextUpdate: now + 50_000 });
    refuses("crl-fresh", /good only until/, { ...good, crls: [rootCrl, ending] });
    preflight({ ...good, crls: [rootCrl, ending] }, options({ crlMarginMs: 10_000 }));
    const early = pki.intermediate.crl({ thisUpdate: now + minute });
    refuses("crl-fresh", /repair the clock/, { ...good, crls: [rootCrl, early] });
  });

  it("refuses a CRL number below the installed one", () => {
    const id = authorityId(pki.intermediate.certificate);
    const crls = [pki.root.crl(), pki.intermediate.crl({ number: 300 })];
    preflight({ ...good, crls }, options({ installedCrlNumbers: { [id]: 300, other: 900 } }));
    refuses(
      "crl-number",
      /number 300, the installed one 301/,
      { ...good, crls },
      { installedCrlNumbers: { [id]: 301 } },
    );
  });

  it("asks for no CRLs where no crl.pem is installed", () => {
    preflight({ ...good, crls: [] }, options({ files: ["key.pem", "fullchain.pem"] }));
  });

  it("does not let an issuer on its way out, without a fresh CRL, hold up a renewal", () => {
    const retired = pki.root.subordinate("Retired");
    const issuers = [pki.intermediate.certificate, retired.certificate];
    preflight({ ...good, issuers }, options());
    const stale = retired.crl({ thisUpdate: now - 2 * day, nextUpdate: now - day });
    preflight({ ...good, issuers, crls: [...good.crls, stale] }, options());
  });
});
