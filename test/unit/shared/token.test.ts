import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { AppError } from "@newleaf/shared/problems";
import { encodeToken, readToken, tokenSecretBytes } from "@newleaf/shared/token";

const root = fingerprint(Buffer.from("a root"));

test("a token gives back the root's fingerprint and the hash of its own text", () => {
  const token = encodeToken(root, randomBytes(tokenSecretBytes));
  const read = readToken(`  ${token}\n`);
  assert.equal(read.rootFingerprint, root);
  assert.equal(read.secretHash, createHash("sha256").update(token).digest("hex"));
  assert.match(token, /^nl1\.[A-Za-z0-9_-]+$/);
});

test("readToken refuses what is not a whole token with token-invalid and never repeats it", () => {
  const token = encodeToken(root, randomBytes(tokenSecretBytes));
  const otherVersion = `nl1.${Buffer.concat([Buffer.from([2]), Buffer.alloc(56)]).toString("base64url")}`;
  for (const text of [
    "",
    "nl1.",
    token.slice(0, -1),
    `${token}A`,
    `${token}=`,
    token.replace("nl1.", "nl2."),
    `${token.slice(0, 9)} ${token.slice(9)}`,
    otherVersion,
  ]) {
    assert.throws(
      () => readToken(text),
      (error: unknown) =>
        error instanceof AppError &&
        error.code === "token-invalid" &&
        (text.length < 8 || !error.message.includes(text)),
      text,
    );
  }
});

test("encodeToken refuses parts of the wrong size", () => {
  assert.throws(() => encodeToken("sha256:12", randomBytes(tokenSecretBytes)), TypeError);
  assert.throws(() => encodeToken(root, randomBytes(8)), TypeError);
});
