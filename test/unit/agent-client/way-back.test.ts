/** To what there is a way back. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { blankJournal, type HeldLeaf, type Served } from "../../../agent-client/journal.ts";
import { canGoBack } from "../../../agent-client/way-back.ts";

const now = Date.UTC(2026, 10, 20);
const leaf = (serial: string): HeldLeaf => ({
  fingerprint: `sha256:${serial.repeat(64)}`,
  serial,
  identity: "gateway-1",
  lineage: "l",
  generation: 1,
  notBefore: 0,
  notAfter: now + 1000,
  receivedAt: 0,
  window: { start: 0, end: 0, learnedAt: 0, moved: false },
});
const [older, newer] = [leaf("a"), leaf("b")];
const served: Served = { version: "one", fingerprint: older.fingerprint, notAfter: older.notAfter, at: 0, serial: "a" };
const goesBack = (state: Partial<typeof blankJournal>, revoked: string, at = now): boolean =>
  canGoBack(
    {
      journal: { state: { ...blankJournal, served, ...state } },
      clock: { now: () => at },
      trust: { isRevoked: (serial) => serial === revoked },
    },
    { version: "two" },
  );

it("goes back to a leaf in date, and not to one that was revoked, be it the agent's own still or not", () => {
  for (const state of [
    { current: older, next: newer },
    { current: newer, next: null },
  ]) {
    assert.equal(goesBack(state, "b"), true);
    assert.equal(goesBack(state, "a"), false, "revoked");
    assert.equal(goesBack(state, "b", now + 1000), false, "over");
  }
});
