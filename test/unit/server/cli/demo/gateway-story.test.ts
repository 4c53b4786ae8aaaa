import assert from "node:assert/strict";
import { test } from "node:test";
import { createGatewayStory } from "../../../../../server/cli/demo/gateway-story.ts";

test("a renewal counts once it was issued, reloaded, served and confirmed, and not before", () => {
  const story = createGatewayStory();
  story.issued({ fingerprint: "a" });
  story.served("a");
  assert.deepEqual(story.complete(), []);
  story.confirmed("a");
  assert.deepEqual(story.complete(), ["a"], "the gateway started with its first leaf: no reload");
  assert.equal(story.renewals(), 0);

  story.issued({ fingerprint: "b" });
  story.served("b");
  story.confirmed("b");
  assert.equal(story.renewals(), 0, "nobody saw the gateway reload");
  story.reloaded();
  assert.equal(story.renewals(), 1);
  assert.deepEqual(story.complete(), ["a", "b"]);
});

test("a reload for another reason, before the leaf was issued, is not its reload", () => {
  const story = createGatewayStory();
  story.issued({ fingerprint: "a" });
  story.reloaded();
  story.issued({ fingerprint: "b" });
  story.served("b");
  story.confirmed("b");
  assert.equal(story.renewals(), 0);
});

test("a leaf that nobody issued is no part of the story", () => {
  const story = createGatewayStory();
  story.served("x");
  story.confirmed("x");
  assert.deepEqual(story.complete(), []);
});
