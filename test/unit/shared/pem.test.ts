import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeBase64, pemDecode, pemEncode } from "@newleaf/shared/pem";
import { isAppError } from "../../support/errors.ts";

const der = Buffer.from(Array.from({ length: 200 }, (_, at) => at));

test("a PEM block has lines of 64 and reads back", () => {
  for (const length of [0, 1, 47, 48, 49, 200]) {
    const text = pemEncode("X509 CRL", der.subarray(0, length));
    assert.match(text, /^-----BEGIN X509 CRL-----\n([A-Za-z0-9+/=]{1,64}\n)*-----END X509 CRL-----\n$/);
    if (length > 0) assert.deepEqual(pemDecode(text, "X509 CRL"), [der.subarray(0, length)]);
  }
});

test("pemDecode finds every block of its label among text and other blocks, with any line end", () => {
  const one = pemEncode("CERTIFICATE", der);
  const other = pemEncode("PRIVATE KEY", der);
  assert.equal(pemDecode(`subject=x\n${one}${other}\nmore\n${one}`, "CERTIFICATE").length, 2);
  assert.equal(pemDecode(one.replaceAll("\n", "\r\n"), "CERTIFICATE").length, 1);
  assert.equal(pemDecode(one.trimEnd(), "CERTIFICATE").length, 1);
  assert.deepEqual(pemDecode("nothing here", "CERTIFICATE"), []);
});

test("pemDecode reads the older label of a request", () => {
  const text = pemEncode("CERTIFICATE REQUEST", der).replaceAll("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
  assert.deepEqual(pemDecode(text, "CERTIFICATE REQUEST"), [der]);
});

test("pemDecode refuses a broken block with request-invalid", () => {
  const text = pemEncode("CERTIFICATE", der);
  const broken = [
    text.replace(/-----END.*\n/, ""),
    text.replace("END CERTIFICATE", "END X509 CRL"),
    text.replace(/-----BEGIN.*\n/, ""),
    `-----BEGIN CERTIFICATE-----\n${text}`,
    text.replace("AAEC", "AA*C"),
    text.replace("AAEC", "AA=C"),
    text.replace("\n", "\nProc-Type: 4,ENCRYPTED\n"),
    "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
  ];
  for (const bad of broken)
    assert.throws(
      () => pemDecode(bad, "CERTIFICATE"),
      (error) => isAppError(error, "request-invalid"),
      bad.slice(0, 80),
    );
});

test("decodeBase64 skips nothing in silence", () => {
  assert.deepEqual(decodeBase64(" AA\tEC\r\n", "x"), Buffer.from([0, 1, 2]));
  for (const bad of ["", "A", "AA", "AAE", "AB==", "A-_C", "AAEC=", "AA==AA==", "AAE\u00e4"])
    assert.throws(
      () => decodeBase64(bad, "x"),
      (error) => isAppError(error, "request-invalid"),
      bad,
    );
});
