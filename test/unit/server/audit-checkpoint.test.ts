import assert from "node:assert/strict";
import { createPublicKey, type KeyObject } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type KeyAlgorithm, generateKey, signBytes } from "@newleaf/shared/key-algorithm";
import {
  type Checkpoint,
  checkpointLine,
  findCheckpoint,
  readCheckpoint,
  signCheckpoint,
  verifyCheckpoint,
} from "../../../server/audit-checkpoint.ts";
import { openSsl } from "../../support/openssl.ts";
import { needs } from "../../support/programs.ts";

const end = { seq: 812, hash: "ab".repeat(32) };
const at = Date.UTC(2026, 10, 20, 3, 17);

async function signer(algorithm: KeyAlgorithm = "ecdsa-p256"): Promise<{
  readonly checkpoint: Checkpoint;
  readonly issuers: ReadonlyMap<string, KeyObject>;
}> {
  const key = await generateKey(algorithm);
  const checkpoint = signCheckpoint(end, at, { id: "0011223344556677", sign: (bytes) => signBytes(key, bytes) });
  return { checkpoint, issuers: new Map([[checkpoint.issuer, createPublicKey(key)]]) };
}

describe("a checkpoint of the audit log", () => {
  it("is one line with the fields that were promised, and reads back", async () => {
    const { checkpoint, issuers } = await signer();
    const line = checkpointLine(checkpoint);
    assert.match(
      line,
      /^\{"version":1,"seq":812,"hash":"(ab){32}","at":"2026-11-20T03:17:00.000Z","issuer":"0011223344556677","signature":"[A-Za-z0-9+/=]+"\}$/,
    );
    assert.deepEqual(findCheckpoint(line), checkpoint);
    assert.deepEqual(
      findCheckpoint(`<109>1 2026-11-20T03:17:00.000Z host newleaf 12 audit-checkpoint [x@1 a="{}"] ${line}\r`),
      checkpoint,
    );
    assert.equal(verifyCheckpoint(checkpoint, issuers), "valid");
  });

  it("holds under openssl, over the text that the file's head describes", { skip: needs("openssl") }, async () => {
    using openssl = openSsl();
    for (const [algorithm, digest] of [
      ["ecdsa-p256", "-sha256"],
      ["ecdsa-p384", "-sha384"],
      ["rsa-3072", "-sha256"],
    ] as const) {
      const { checkpoint, issuers } = await signer(algorithm);
      const key = issuers.get(checkpoint.issuer) ?? assert.fail();
      const text =
        'newleaf audit checkpoint v1\n{"at":"2026-11-20T03:17:00.000Z","hash":"' +
        `${"ab".repeat(32)}","issuer":"0011223344556677","seq":812,"version":1}`;
      writeFileSync(join(openssl.dir, "text"), text);
      writeFileSync(join(openssl.dir, "signature"), Buffer.from(checkpoint.signature, "base64"));
      writeFileSync(join(openssl.dir, "issuer.pub"), key.export({ type: "spki", format: "pem" }));
      const answer = openssl.run(["dgst", digest, "-verify", "issuer.pub", "-signature", "signature", "text"]);
      assert.match(answer, /Verified OK/);
    }
  });

  it("does not hold when any field is another, or nobody who is trusted signed it", async () => {
    const { checkpoint, issuers } = await signer();
    const changes: readonly Partial<Checkpoint>[] = [
      { seq: 813 },
      { hash: "cd".repeat(32) },
      { at: "2026-11-20T03:17:00.001Z" },
      { signature: `${checkpoint.signature.slice(0, -8)}AAAAAAA=` },
      { signature: "" },
    ];
    for (const change of changes) {
      assert.equal(verifyCheckpoint({ ...checkpoint, ...change }, issuers), "bad-signature", JSON.stringify(change));
    }
    assert.equal(verifyCheckpoint({ ...checkpoint, issuer: "ff" }, issuers), "unknown-issuer");
    assert.equal(
      verifyCheckpoint(checkpoint, (await signer()).issuers),
      "bad-signature",
      "another key under that name",
    );
  });

  it("reads nothing that is not exactly one", async () => {
    const { checkpoint } = await signer();
    const wrong: readonly unknown[] = [
      null,
      "text",
      { ...checkpoint, version: 2 },
      { ...checkpoint, seq: 0 },
      { ...checkpoint, seq: "812" },
      { ...checkpoint, hash: "AB".repeat(32) },
      { ...checkpoint, at: "yesterday" },
      { ...checkpoint, note: "not signed" },
      { ...checkpoint, signature: 1 },
    ];
    for (const value of wrong) assert.equal(readCheckpoint(value), null, JSON.stringify(value));
    for (const text of ["", "{", "}{", '{"version":1', `${checkpointLine(checkpoint)}${" ".repeat(20_000)}`]) {
      assert.equal(findCheckpoint(text), null);
    }
  });
});
