import assert from "node:assert/strict";
import { test } from "node:test";
import { killRounds } from "../durability/kill-rounds.ts";

test("kill -9 of the service under load loses nothing that was released (100 rounds)", async (context) => {
  const { received } = await killRounds(100);
  context.diagnostic(`${received} certificates received`);
  assert.ok(received > 1_000, `only ${received} certificates were received: the load did not run`);
});

test("… and with a journal leaves one that makes the same database (40 rounds)", async (context) => {
  const { received } = await killRounds(40, { withJournal: true });
  context.diagnostic(`${received} certificates received`);
  assert.ok(received > 400, `only ${received} certificates were received: the load did not run`);
});
