/** The agent, told by a real service to come back later: it waits as long as it is told, spread out, and never beyond half of what its leaf has left. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { renewalLimits } from "../../../server/authority/herd/admission.ts";
import { tell } from "../../support/agent-story.ts";
import { busyLine } from "../../support/busy-line.ts";

/** A thousand and 32 ahead, at the hundred a second that are assumed until something was measured. */
const askedMs = 10_000;

test("an agent that is sent away comes back no sooner than it was told, and renews when the line is free", async () => {
  await tell({}, async ({ service, agent, pass }) => {
    const line = busyLine(service.server.authority.herd.renewals, renewalLimits.maxWaiting);
    const before = Date.now();
    assert.equal((await pass(true)).failed, true);
    const { ask } = agent.journal.state.retries;
    assert.equal(ask.error?.code, "rate-limited");
    const pause = ask.notBefore - before;
    assert.ok(pause >= askedMs && pause < 4 * askedMs, `${pause} ms`);
    line.end();
    const { failed, renewed } = await pass(true);
    assert.deepEqual([failed, renewed], [false, true]);
  });
});

test("an agent whose leaf is near its end comes back sooner than a service with a long line would have it", async () => {
  await tell({ env: { NEWLEAF_PROFILES_GATEWAY_VALIDITY: "15s" } }, async ({ service, agent, pass }) => {
    using line = busyLine(service.server.authority.herd.renewals, renewalLimits.maxWaiting);
    await pass(true);
    const { ask } = agent.journal.state.retries;
    assert.equal(ask.error?.code, "rate-limited");
    const { at } = ask.error;
    const left = (agent.journal.state.current?.notAfter ?? 0) - at;
    assert.ok(left > 0 && left < 15_000);
    assert.ok(ask.notBefore - at <= left / 2 + 1, `${ask.notBefore - at} ms of ${left} ms`);
    assert.ok(ask.notBefore - at < askedMs);
    line.end();
  });
});
