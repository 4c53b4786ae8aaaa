/** A short run of `test/proof/api-fuzz.test.ts`. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { fuzzService } from "../../../support/fuzzed-service.ts";

it("the admin API answers 2,000 requests made from its document as the document says, and a viewer changes nothing", async () => {
  const reports = await fuzzService(2_000, 1);
  assert.equal(
    reports.reduce((sum, { requests }) => sum + requests, 0),
    2_000,
  );
});
