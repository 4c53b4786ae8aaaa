import assert from "node:assert/strict";
import { test } from "node:test";
import { killRounds } from "./kill-rounds.ts";

test("kill -9 of the service under load loses nothing that was released (8 rounds)", async (context) => {
  const { received } = await killRounds(8);
  context.diagnostic(`${received} certificates received`);
  assert.ok(received > 50, `only ${received} certificates were received: the load did not run`);
});
