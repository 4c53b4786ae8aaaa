import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ChainError, followChain } from "../../../../agent-client/install/chain.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeRoot, type TestAuthority } from "../../../support/test-ca.ts";

describe("followChain", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("chain");
  const root = makeRoot(directory);
  const upper = root.subordinate("Upper", { pathLength: 1 });
  const lower = upper.subordinate("Lower");
  const now = Date.now();
  const follow = (
    leaf: Buffer,
    chain: readonly TestAuthority[],
    roots: readonly Buffer[] = [root.certificate],
  ): string[] =>
    followChain(
      leaf,
      chain.map((authority) => authority.certificate),
      roots,
      now,
    ).map((certificate) => certificate.subject);

  it("names the CAs up to the root", () => {
    assert.deepEqual(follow(lower.issue().certificate, [lower, upper]), ["CN=Lower", "CN=Upper", "CN=Test Root"]);
    assert.deepEqual(follow(root.issue().certificate, []), ["CN=Test Root"]);
  });

  it("gives up after three steps", () => {
    const deepest = lower.subordinate("Deepest");
    assert.throws(() => follow(deepest.issue().certificate, [deepest, lower, upper]), ChainError);
  });

  it("holds a path length", () => {
    const narrow = root.subordinate("Narrow", { pathLength: 0 });
    const below = narrow.subordinate("Below");
    assert.throws(() => follow(below.issue().certificate, [below, narrow]), /path length/);
  });

  it("does not take a certificate for a CA's that has its name and key, but not cA", () => {
    const leaf = upper.issue().certificate;
    const extensions = ["keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"];
    for (const constraints of [[], ["basicConstraints=critical,CA:FALSE"]]) {
      const pretender = root.issue({
        commonName: "Upper",
        key: upper.key,
        extensions: [...extensions, ...constraints],
      });
      assert.throws(
        () => followChain(leaf, [pretender.certificate], [root.certificate], now),
        /cannot stand above .*not a CA certificate/,
      );
    }
  });

  it("does not take a signature that is not the issuer's", () => {
    const broken = Buffer.from(root.issue().certificate);
    broken.writeUInt8((broken.at(-1) ?? 0) ^ 1, broken.length - 1);
    assert.throws(() => followChain(broken, [], [root.certificate], now), /the signature is not its own/);
  });

  it("needs the very root, not one with its name", () => {
    const namesake = makeRoot(join(directory, "namesake"));
    const leaf = upper.issue().certificate;
    assert.throws(() => follow(leaf, [upper], [namesake.certificate]), /ends at "CN=Upper".*key ids|signature/);
    assert.deepEqual(follow(leaf, [upper], [namesake.certificate, root.certificate]), ["CN=Upper", "CN=Test Root"]);
  });

  it("follows a cross-certificate to the old root, and none in circles", () => {
    const next = makeRoot(join(directory, "next"), "Next Root");
    const issuing = next.subordinate("Next Intermediate");
    const leaf = issuing.issue().certificate;
    const cross = root.crossSign(next);
    const back = next.crossSign(root);
    const path = followChain(leaf, [issuing.certificate, cross], [root.certificate], now);
    assert.deepEqual(
      path.map(({ subject }) => subject),
      ["CN=Next Intermediate", "CN=Next Root", "CN=Test Root"],
    );
    const third = makeRoot(join(directory, "third"), "Third");
    assert.throws(
      () => followChain(leaf, [issuing.certificate, cross, back, cross], [third.certificate], now),
      ChainError,
    );
  });

  it("answers junk with a ChainError", () => {
    assert.throws(() => followChain(Buffer.from("junk"), [], [root.certificate], now), ChainError);
    assert.throws(() => followChain(root.issue().certificate, [], [Buffer.alloc(3)], now), ChainError);
  });
});
