import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest } from "@newleaf/shared/nearest";

const keys = ["server", "enrollment", "roots", "rootFingerprint", "state", "metrics", "certificates"];

test("nearest finds the key that was meant", () => {
  assert.equal(nearest("sever", keys), "server");
  assert.equal(nearest("enrolment", keys), "enrollment");
  assert.equal(nearest("root", keys), "roots");
  assert.equal(nearest("rootfingerprint", keys), "rootFingerprint");
  assert.equal(nearest("certficiates", keys), "certificates");
  assert.equal(nearest("satte", keys), "state", "a swap is one step");
});

test("nearest has no guess for a word that is like none", () => {
  assert.equal(nearest("haproxy", keys), null);
  assert.equal(nearest("", keys), null);
  assert.equal(nearest("x".repeat(10_000), keys), null);
  assert.equal(nearest("server", []), null);
});
