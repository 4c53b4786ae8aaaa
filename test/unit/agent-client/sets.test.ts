/** What of a set is news to a proxy that was told before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { changeOf } from "../../../agent-client/sets.ts";
import { everything } from "../../../agent-client/reload/strategy.ts";
import { desiredOf, newer, old, toldOf } from "../../support/decision-world.ts";

const nothing = { leaf: false, trust: false, revoked: false, crls: false };

test("what the proxy was told already is no news, in whatever order its CRLs are known", () => {
  assert.deepEqual(changeOf(toldOf(old), desiredOf(old)), nothing);
  const told = toldOf(old, { crlNumbers: { root: 1, ca: 5 } });
  assert.deepEqual(changeOf(told, desiredOf(old, { crlNumbers: { ca: 5, root: 1 } })), nothing);
});

test("each part of a set is news by itself", () => {
  const news = (change: Parameters<typeof desiredOf>[1]) => changeOf(toldOf(old), desiredOf(old, change));
  assert.deepEqual(changeOf(toldOf(old), desiredOf(newer)), { ...nothing, leaf: true });
  assert.deepEqual(news({ recipe: "another" }), { ...nothing, leaf: true });
  assert.deepEqual(news({ bundleVersion: 99 }), { ...nothing, trust: true });
  assert.deepEqual(news({ revoked: "another" }), { ...nothing, revoked: true });
  assert.deepEqual(news({ crlNumbers: { ca: 6 } }), { ...nothing, crls: true });
});

test("to a proxy of which nothing is known everything is news", () => {
  assert.deepEqual(changeOf(null, desiredOf(old)), everything);
  assert.deepEqual(changeOf(toldOf(old), null), everything);
});
