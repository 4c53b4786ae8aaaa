/**
 * Time is hostile: clocks are wrong, hosts sleep, services go away, are slow, silent or tell everybody to come back later. The leaf is
 * renewed before it expires wherever that was possible, and where it was not, an operator sees it in log, status and metrics.
 */
import assert from "node:assert/strict";
import dns from "node:dns";
import { describe, it, type TestContext } from "node:test";
import { metricsOf, renderMetrics } from "../../agent-client/metrics.ts";
import { runInBackground, until } from "../support/agent.ts";
import type { FrontMode } from "../support/front.ts";
import { day, hour, minute, ofLevel, tellOfTime, type TimeStory } from "../support/time-story.ts";

const month = { ago: 29 * day };
/** Day 20 to 23 of 30 is the window; on this day every leaf is due. */
const dueDay = 23.5 * day;

/** The calm part of a leaf's life. */
async function untilDue({ live }: TimeStory): Promise<void> {
  await live(18 * day, 6 * day);
}

/** A successor is in force, was served, and came while its predecessor was in date. */
async function assertRenewed(
  { agent, leaf, lines, status }: TimeStory,
  first: { notAfter: number; serial: string },
  state = "ok",
): Promise<void> {
  const now = leaf();
  assert.notEqual(now.serial, first.serial, lines.slice(-20).join(""));
  assert.ok(now.receivedAt < first.notAfter, "renewed in time");
  assert.equal(agent.journal.state.next, null, "it is in force");
  assert.equal((await status()).state, state, lines.slice(-20).join(""));
}

describe("a clock that is wrong", () => {
  for (const [what, skew] of [
    ["an hour ahead of", hour],
    ["an hour behind", -hour],
  ] as const) {
    it(`${what} the service's: renewed in its window, and the service shows the skew`, async () => {
      await tellOfTime({ ...month, skew }, async (story) => {
        const first = story.leaf();
        await untilDue(story);
        await story.live(5 * day, 12 * hour);
        // A clock that is behind has to wait until the new leaf is valid by it.
        await story.live(2 * hour, 30 * minute);
        const behind = skew < 0;
        await assertRenewed(story, first, behind ? "failing" : "ok");
        const { failures } = await story.status();
        assert.deepEqual(
          failures.map(({ code }) => code),
          behind ? ["crl-early"] : [],
        );
        for (const { nextUpdate, thisUpdate } of story.agent.trust.trust.crls.values())
          assert.ok(thisUpdate <= story.clock.now() && nextUpdate > story.clock.now() + 13 * day);
        const metrics = await (await fetch(`${story.service.urls.ops}/metrics`)).text();
        const skewed = /^newleaf_agent_clock_skew_seconds\{identity="gateway-1"\} (\S+)$/m.exec(metrics)?.[1];
        assert.ok(Math.abs(Number(skewed) - skew / 1000) < 30, skewed);
      });
    });

    it(`${what} the service's: the agent says so, and by how much`, async () => {
      await tellOfTime({ ago: 0, skew, probed: false }, async (story) => {
        const said = ofLevel(story.lines, "warn").filter((line) => line.includes(" clock-skew "));
        const seconds = Number(/ seconds=(\S+)/.exec(said[0] ?? "")?.[1]);
        assert.ok(Math.abs(seconds - skew / 1000) < 30, story.lines.join(""));
      });
    });
  }

  it("steps back by a day in the middle: nothing waits for the time that was", async () => {
    await tellOfTime(month, async (story) => {
      const first = story.leaf();
      await story.live(10 * day, 5 * day);
      const asked = story.asked();
      story.clock.advance(-day);
      await story.live(10 * minute, 10 * minute);
      assert.ok(story.asked() > asked, "what was last done in the future is done now");
      story.clock.advance(day);
      await story.live(14 * day, 2 * day);
      await assertRenewed(story, first);
    });
  });
});

describe("a host that sleeps", () => {
  it("for twenty days: renewed at the first look after it wakes", async () => {
    await tellOfTime(month, async (story) => {
      const first = story.leaf();
      await story.live(3.6 * day, day);
      story.sleep(20 * day);
      await story.live(minute, minute);
      await assertRenewed(story, first);
      assert.deepEqual(
        ofLevel(story.lines, "warn").filter((line) => line.includes(" failed ")),
        [],
        "not even with the CRL that ended meanwhile",
      );
    });
  });

  it("while it runs: woken past two thirds of the leaf's life, the loop renews without being told", async () => {
    await tellOfTime({ ago: 10 * minute, validity: "10m" }, async (story) => {
      const first = story.leaf();
      await using _ = runInBackground(story.app);
      await until("it runs", () => story.lines.some((line) => line.includes(" ready ")));
      story.sleep(8 * minute);
      // As after any sleep, what ends the wait is the tick or the change feed that broke.
      await until("it has renewed", () => story.leaf().serial !== first.serial, 40_000);
      assert.ok(story.leaf().receivedAt < first.notAfter);
    });
  });
});

describe("a service that is away", () => {
  it("for ten days, all of the window: renewed when it is back, and the CRL is in date all the time", async () => {
    await tellOfTime(month, async (story) => {
      const first = story.leaf();
      await story.live(17 * day, 4 * day);
      story.road("closed");
      await story.live(10 * day, 12 * hour);
      const away = await story.status();
      assert.equal(away.state, "failing");
      assert.match(away.failures.map(({ message }) => message).join(), /not reached/);
      assert.ok(
        ofLevel(story.lines, "error").some((line) => line.includes("work=ask")),
        "nine tenths of the life are over: an error, no longer a warning",
      );
      const [crl] = [...story.app.trust.trust.crls.values()].map((one) => one.nextUpdate).toSorted((a, b) => a - b);
      assert.ok(crl !== undefined && crl > story.clock.now(), "no proxy refuses everybody");
      story.road("through");
      await story.live(2 * hour, 30 * minute);
      await assertRenewed(story, first);
    });
  });

  it("until the leaf and the CRL are over: loud in log, status and metrics; asks again by itself and recovers with a grant", async () => {
    await tellOfTime({ ...month, validity: "20d", probed: false }, async (story) => {
      const first = story.leaf();
      await story.live(6 * day, day);
      story.road("closed");
      await story.live(15 * day, 6 * hour);
      const errors = ofLevel(story.lines, "error");
      assert.ok(
        errors.some((line) => line.includes(" expired ")),
        errors.join(""),
      );
      assert.ok(
        errors.some((line) => line.includes("work=trust")),
        "the CRL is about to be over",
      );
      const status = await story.status();
      assert.equal(status.state, "expired");
      assert.ok(status.failures.every(({ advice }) => advice !== null));
      const { config, journal, trust, view } = story.agent;
      const seen = { attempts: view.attempts, canaries: [] };
      const metrics = renderMetrics([metricsOf(config, journal.state, trust.trust, seen)]);
      const value = (name: string): number =>
        Number(new RegExp(`^${name}\\{certificate="gateway"\\} (\\S+)$`, "m").exec(metrics)?.[1]);
      assert.equal(value("newleaf_agent_not_after_timestamp_seconds"), first.notAfter / 1000);
      assert.ok(value("newleaf_agent_crl_next_update_timestamp_seconds") * 1000 < story.clock.now());
      await story.service.admin("POST", "/v1/identities/gateway-1/recovery-grants", { ttl: "24h" });
      story.road("through");
      await story.live(3 * hour, 10 * minute);
      assert.notEqual(story.leaf().serial, first.serial, story.lines.slice(-10).join(""));
      assert.equal((await story.status()).state, "ok");
    });
  });

  it("with its name: DNS that fails is a service that is away", async (t: TestContext) => {
    await tellOfTime(month, async (story) => {
      const first = story.leaf();
      await untilDue(story);
      const lookup = t.mock.method(dns, "lookup", (name: string, _options: unknown, done: (error: Error) => void) => {
        process.nextTick(done, Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: "ENOTFOUND" }));
      });
      await story.live(5 * day, 12 * hour);
      lookup.mock.restore();
      assert.match((await story.status()).failures.map(({ message }) => message).join(), /not reached \(ENOTFOUND\)/);
      await story.live(2 * hour, 30 * minute);
      await assertRenewed(story, first);
    });
  });
});

describe("a service that answers badly", () => {
  const bad: readonly (readonly [string, FrontMode, RegExp])[] = [
    ["accepts and says nothing", "silent", /timeout.*no answer within/],
    ["sends a byte now and then", "trickles", /timeout.*no answer within/],
    ["resets every connection", "resets", /unreachable.*not reached/],
  ];
  for (const [what, mode, message] of bad) {
    it(`${what}: each attempt ends, and the leaf is renewed when it answers`, async () => {
      await tellOfTime(month, async (story) => {
        const first = story.leaf();
        await untilDue(story);
        story.road(mode);
        story.sleep(dueDay - 18 * day);
        await story.live(30 * minute, 30 * minute);
        const failures = (await story.status()).failures.map(({ code, message }) => `${code}: ${message}`);
        assert.match(failures.join("\n"), message);
        assert.equal(story.leaf().serial, first.serial);
        story.road("through");
        await story.live(2 * hour, 30 * minute);
        await assertRenewed(story, first);
      });
    });
  }
});

describe("a service that says later", () => {
  const limited = { type: "about:blank", title: "Too many requests", status: 429, code: "rate-limited" };
  const inAnHour = new Date(Date.now() + hour).toUTCString();
  const waits = [
    [
      "429 of the service with seconds",
      { status: 429, headers: { "retry-after": "3600" }, body: { ...limited, retryAfterSeconds: 3600 } },
    ],
    ["429 of a proxy before it, with seconds", { status: 429, headers: { "retry-after": "3600" } }],
    ["503 with a date", { status: 503, headers: { "retry-after": inAnHour } }],
  ] as const;
  for (const [what, refusal] of waits) {
    it(`${what}: left alone for that hour, and renewed after it`, async () => {
      await tellOfTime(month, async (story) => {
        const first = story.leaf();
        await untilDue(story);
        story.refusal.now = refusal;
        story.road("answers");
        story.sleep(dueDay - 18 * day);
        await story.live(minute, minute);
        const { notBefore } = story.agent.journal.state.retries.ask;
        const wait = notBefore - story.clock.now();
        assert.ok(wait > 55 * minute && wait < 75 * minute, `asks again in ${wait / minute} min`);
        const asked = story.asked();
        await story.live(45 * minute, 5 * minute);
        assert.equal(story.asked(), asked, "nobody was asked anything meanwhile");
        story.road("through");
        await story.live(90 * minute, 15 * minute);
        await assertRenewed(story, first);
      });
    });
  }

  it("429 without a time: backs off by itself, not in a circle", async () => {
    await tellOfTime(month, async (story) => {
      const first = story.leaf();
      await untilDue(story);
      story.refusal.now = { status: 429, body: limited };
      story.road("answers");
      story.sleep(dueDay - 18 * day);
      const asked = story.asked();
      await story.live(6 * hour, 5 * minute);
      assert.ok(story.asked() - asked < 180, `asked ${story.asked() - asked} times in six hours`);
      story.road("through");
      await story.live(2 * hour, 15 * minute);
      await assertRenewed(story, first);
    });
  });

  it("a Retry-After of a month, with five days left: obeyed for a day at most, never past the end", async () => {
    await tellOfTime(month, async (story) => {
      const first = story.leaf();
      await untilDue(story);
      story.refusal.now = { status: 429, headers: { "retry-after": String((30 * day) / 1000) } };
      story.road("answers");
      story.sleep(25 * day - 18 * day);
      await story.live(minute, minute);
      const { notBefore } = story.agent.journal.state.retries.ask;
      assert.ok(notBefore - story.clock.now() <= day, new Date(notBefore).toISOString());
      story.road("through");
      await story.live(day + hour, 2 * hour);
      await assertRenewed(story, first);
    });
  });
});
