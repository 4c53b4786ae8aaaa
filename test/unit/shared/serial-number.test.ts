import assert from "node:assert/strict";
import { test } from "node:test";
import { normaliseSerial, serialFromBytes, serialToDer } from "@newleaf/shared/serial-number";
import { isAppError } from "../../support/errors.ts";

test("a serial's highest bit gets a sign octet in DER and loses it in text", () => {
  assert.equal(serialToDer(`ff${"00".repeat(15)}`).toString("hex"), `021100ff${"00".repeat(15)}`);
  assert.equal(serialToDer("7f").toString("hex"), "02017f");
  assert.equal(serialFromBytes(Buffer.from("00ff01", "hex")), "ff01");
  assert.equal(serialFromBytes(Buffer.from("0f", "hex")), "0f");
});

test("what people paste becomes the one spelling", () => {
  const spellings: Readonly<Record<string, string>> = {
    "0F": "0f",
    F: "0f",
    "00:AB:cd": "abcd",
    "0xABCD": "abcd",
    " ab cd ": "abcd",
    "000abcd": "abcd",
  };
  for (const [text, serial] of Object.entries(spellings)) assert.equal(normaliseSerial(text), serial, text);
});

test("what is no serial number is refused with request-invalid", () => {
  for (const text of ["", "0", "00", "xyz", "-1", "ab-cd", "12".repeat(21), "ff".repeat(20), "é"]) {
    assert.throws(
      () => normaliseSerial(text),
      (error) => isAppError(error, "request-invalid"),
      text,
    );
  }
  assert.equal(normaliseSerial("7f".repeat(20)), "7f".repeat(20));
});

test("serialToDer refuses what has no DER of at most 20 octets", () => {
  for (const text of ["", "f", "zz", "ff".repeat(20), "01".repeat(21)])
    assert.throws(() => serialToDer(text), /serial/);
});
