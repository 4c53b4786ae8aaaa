import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { fromJournalText, toJournalText } from "../../../../../server/store/journal/values.ts";

const plain = fc.anything({
  key: fc.oneof(fc.string(), fc.constantFrom("$bytes", "$map", "$", "__proto__", "toJSON")),
  withBigInt: true,
  withDate: true,
  withMap: true,
  withSet: true,
});

describe("values in the journal", () => {
  it("come back as what they were, whatever may cross to the writer", () => {
    fc.assert(
      fc.property(plain, fc.uint8Array({ maxLength: 40 }), (value, bytes) => {
        const whole = { value, bytes, list: [undefined, value, bytes] };
        assert.deepStrictEqual(fromJournalText(toJournalText(whole)), whole);
      }),
      { numRuns: 500 },
    );
  });

  it("keep what JSON loses", () => {
    const value = [undefined, -0, Number.NaN, -Infinity, "\ud800", { absent: undefined }, { $bytes: "no bytes" }];
    assert.deepStrictEqual(fromJournalText(toJournalText(value)), value);
    const window = new Uint8Array(new Uint8Array([1, 2, 3, 4, 5]).buffer, 1, 3);
    assert.deepStrictEqual(fromJournalText(toJournalText(window)), new Uint8Array([2, 3, 4]));
  });

  it("are refused when they are no data, and when a newer version wrote them", () => {
    assert.throws(() => toJournalText(() => 1), /cannot hold a function/);
    assert.throws(() => toJournalText(Symbol("s")), /cannot hold a symbol/);
    assert.throws(() => toJournalText(new URL("http://localhost")), /cannot hold a URL/);
    assert.throws(() => fromJournalText('{"$float16":[1]}'), /does not know: \$float16/);
    assert.throws(() => fromJournalText('{"$map":[1]}'), /a pair that is none/);
  });
});
