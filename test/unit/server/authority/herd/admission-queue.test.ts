import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { assert as always, integer, property } from "fast-check";
import { admissionQueue, type Applicant, type Entered } from "../../../../../server/authority/herd/admission-queue.ts";
import { type HerdClient, runHerd } from "../../../../support/herd-model.ts";

const hour = 3_600_000;
const day = 24 * hour;
const limits = { maxInWork: 1, maxWaiting: 3, maxWait: 15_000 };

function applicant(who: string, left: number, due = true): Applicant {
  return { who, left, due };
}

/** Nobody is in work for as long as the test looks at the line. */
function busyQueue(changes: Partial<typeof limits> = {}, random = (): number => 0) {
  const queue = admissionQueue<Applicant>({ ...limits, ...changes }, random);
  assert.deepEqual(whoBegins(queue.enter(applicant("in work", day), 0)), ["in work"]);
  return queue;
}

function drained(queue: ReturnType<typeof busyQueue>, now = 1): string[] {
  const order: string[] = [];
  for (let [next] = queue.finish(now); next !== undefined; [next] = queue.finish(now)) order.push(next.who);
  return order;
}

function whoBegins({ begins }: Pick<Entered<Applicant>, "begins">): string[] {
  return begins.map(({ who }) => who);
}

describe("the line in front of issuing", () => {
  it("whoever has the least time left is next, whenever it came; those that are not due come last", () => {
    const queue = busyQueue({ maxWaiting: 9 });
    queue.enter(applicant("three weeks", 21 * day), 0);
    queue.enter(applicant("a minute, not due", 60_000, false), 0);
    queue.enter(applicant("an hour", hour), 0);
    queue.enter(applicant("a week, not due", 7 * day, false), 0);
    queue.enter(applicant("a day", day), 0);
    assert.deepEqual(drained(queue), ["an hour", "a day", "three weeks", "a minute, not due", "a week, not due"]);
  });

  it("equals are served as they came, and waiting makes nobody less urgent", () => {
    const queue = busyQueue();
    queue.enter(applicant("first", hour), 0);
    queue.enter(applicant("second", hour), 0);
    queue.enter(applicant("as urgent, a second later", hour - 1000), 1000);
    assert.deepEqual(drained(queue), ["first", "second", "as urgent, a second later"]);
  });

  it("when it is full the least urgent goes, whether it waited or came", () => {
    const queue = busyQueue();
    for (const who of ["a", "b", "c"]) queue.enter(applicant(who, day), 0);
    const late = queue.enter(applicant("less urgent", 2 * day), 0);
    assert.deepEqual(
      [whoBegins(late), late.dismissed?.ticket.who, late.dismissed?.because],
      [[], "less urgent", "full"],
    );
    const urgent = queue.enter(applicant("more urgent", hour), 0);
    assert.deepEqual([whoBegins(urgent), urgent.dismissed?.ticket.who], [[], "c"]);
    assert.equal(queue.waiting(), 3);
    assert.deepEqual(drained(queue), ["more urgent", "a", "b"]);
  });

  it("no more are in work than may be, and a place that is free is taken at once", () => {
    const queue = admissionQueue<Applicant>({ ...limits, maxInWork: 2 }, () => 0);
    const enter = (who: string): string[] => whoBegins(queue.enter(applicant(who, day), 0));
    assert.deepEqual([enter("a"), enter("b"), enter("c")], [["a"], ["b"], []]);
    assert.deepEqual(whoBegins({ begins: queue.finish(1) }), ["c"]);
    assert.equal(queue.inWork(), 2);
    assert.deepEqual(queue.finish(2), []);
    assert.equal(queue.inWork(), 1);
    assert.deepEqual(enter("d"), ["d"]);
  });

  it("in a crowd one begins for every two that come, the most urgent; when it is over, all that may", () => {
    let crowded = true;
    const queue = admissionQueue<Applicant>(
      { ...limits, maxInWork: 3, maxWaiting: 9 },
      () => 0,
      () => crowded,
    );
    const enter = (who: string, left: number): string[] => whoBegins(queue.enter(applicant(who, left), 0));
    assert.deepEqual([enter("weeks", 21 * day), enter("hour", hour)], [[], ["hour"]]);
    assert.deepEqual([enter("day", day), enter("minute", 60_000)], [[], ["minute"]]);
    assert.deepEqual(queue.finish(1), [], "nobody came meanwhile");
    assert.deepEqual(queue.proceed(1), []);
    crowded = false;
    assert.deepEqual(whoBegins({ begins: queue.proceed(2) }), ["day", "weeks"]);
  });

  it("whoever has gone is not served, and leaves a place", () => {
    const queue = busyQueue();
    const gone = applicant("gone", hour);
    queue.enter(gone, 0);
    queue.enter(applicant("stays", day), 0);
    assert.equal(queue.leave(gone, 1), true);
    assert.equal(queue.leave(gone, 1), false);
    assert.deepEqual(drained(queue), ["stays"]);
  });

  it("a third request of one leaf comes after everybody else's, so that its holder cannot fill the line", () => {
    const queue = busyQueue({ maxWaiting: 4 });
    for (let count = 0; count < 3; count++) queue.enter(applicant("greedy", hour), 0);
    queue.enter(applicant("weeks", 21 * day), 0);
    const { dismissed } = queue.enter(applicant("weeks, too", 22 * day), 0);
    assert.equal(dismissed?.ticket.who, "greedy");
    assert.deepEqual(drained(queue), ["greedy", "greedy", "weeks", "weeks, too"]);
    queue.enter(applicant("in work", day), 2);
    queue.enter(applicant("weeks", 21 * day), 2);
    queue.enter(applicant("greedy", hour), 2);
    assert.deepEqual(drained(queue), ["greedy", "weeks"], "as urgent as ever");
  });

  it("no longer than what can be served in time: whoever would wait in vain is told at once", () => {
    const queue = busyQueue({ maxWaiting: 100 });
    for (let index = 0; index < 100; index++) queue.enter(applicant(`host ${index}`, day), 0);
    assert.equal(queue.waiting(), 100);
    // Five a second: 52 of them in seven tenths of fifteen seconds.
    for (let now = 200; now <= 10_000; now += 200) queue.finish(now);
    const outcomes = Array.from(
      { length: 10 },
      (_, index) => queue.enter(applicant(`later ${index}`, 2 * day), 10_000).dismissed?.because,
    );
    assert.deepEqual(outcomes, [undefined, undefined, ...Array.from({ length: 8 }, () => "full")]);
    assert.equal(queue.waiting(), 52);
  });

  it("nobody waits longer than a client does for its answer", () => {
    const queue = busyQueue();
    queue.enter(applicant("early", day), 0);
    queue.enter(applicant("late", hour), 500);
    assert.deepEqual(queue.overdue(14_999), []);
    assert.deepEqual(
      queue.overdue(15_000).map(({ ticket, because }) => [ticket.who, because]),
      [["early", "too-long"]],
    );
    assert.equal(queue.waiting(), 1);
  });
});

describe("Retry-After", () => {
  /** A line that is full of `ahead` applicants with a day left, drained at ten a second for a while. */
  function measured(ahead: number, random = (): number => 0) {
    const queue = busyQueue({ maxWaiting: ahead }, random);
    let now = 0;
    for (let index = 0; index < ahead; index++) queue.enter(applicant(`ahead ${index}`, day), now);
    for (let index = 0; index < 30; index++) {
      now += 100;
      queue.finish(now);
      queue.enter(applicant(`next ${index}`, day), now);
    }
    return { queue, now };
  }

  it("is how many are ahead by the rate measured, and grows with each that was sent away before", () => {
    const { queue, now } = measured(50);
    assert.ok(Math.abs(queue.drainRate(now) - 10) < 0.5, String(queue.drainRate(now)));
    const waits = Array.from(
      { length: 100 },
      (_, index) => queue.enter(applicant(`away ${index}`, 7 * day), now).dismissed?.retryAfterSeconds ?? 0,
    );
    // One in work, fifty in the line, and each time one more in somebody's head; at ten a second.
    assert.deepEqual([waits[0], waits[49], waits[99]], [6, 10, 15]);
  });

  it("no longer counts those who came back", () => {
    const { queue, now } = measured(50);
    const away = Array.from({ length: 100 }, (_, index) => applicant(`away ${index}`, 7 * day));
    for (const one of away) queue.enter(one, now);
    while (queue.waiting() > 0) queue.finish(now);
    for (const one of away.slice(0, 50)) queue.enter(one, now);
    assert.equal(queue.waiting(), 50);
    // In work 1, in the line 50, away 50; not 100.
    assert.equal(queue.enter(applicant("another", 7 * day), now).dismissed?.retryAfterSeconds, 11);
  });

  it("forgets those who do not come", () => {
    const { queue, now } = measured(50);
    for (let index = 0; index < 500; index++) queue.enter(applicant(`away ${index}`, 7 * day), now);
    const later = now + 300_000;
    for (let index = 0; index < 30; index++) queue.finish(later + index * 100);
    for (let index = 0; index < 30; index++) queue.enter(applicant(`next ${index}`, day), later);
    const wait = queue.enter(applicant("another", 7 * day), later + 3_000).dismissed?.retryAfterSeconds ?? 0;
    assert.ok(wait * queue.drainRate(later + 3_000) < 100, String(wait));
  });

  it("does not count those who are less urgent", () => {
    const { queue, now } = measured(50);
    for (let index = 0; index < 500; index++) queue.enter(applicant(`weeks ${index}`, 20 * day), now);
    const hours = queue.enter(applicant("hours", day + hour), now).dismissed?.retryAfterSeconds;
    const weeks = queue.enter(applicant("weeks", 20 * day), now).dismissed?.retryAfterSeconds;
    assert.deepEqual([hours, weeks], [6, 56]);
  });

  it("is never more than half of what is left, and at least a second", () => {
    const { queue, now } = measured(500);
    // Not due, so that it is not served before the others however little is left.
    const pause = (left: number) =>
      queue.enter(applicant(`left ${left}`, left, false), now).dismissed?.retryAfterSeconds;
    assert.equal(pause(21_000), 10);
    assert.equal(pause(1_000), 1);
    assert.equal(pause(0), 1);
    assert.ok((pause(day) ?? 0) >= 50);
  });

  it("spreads those who are sent away together", () => {
    let turn = 0;
    const { queue, now } = measured(50, () => (turn++ % 10) / 10);
    const waits = Array.from(
      { length: 20 },
      (_, index) => queue.enter(applicant(`away ${index}`, 7 * day), now).dismissed?.retryAfterSeconds,
    );
    assert.ok(new Set(waits).size >= 3, waits.join(" "));
    assert.ok(waits.every((wait) => (wait ?? 0) >= 6));
  });

  it("grows while nothing is finished: a service that hangs promises nothing", () => {
    const { queue, now } = measured(50);
    const soon = queue.enter(applicant("a", 7 * day), now).dismissed?.retryAfterSeconds ?? 0;
    const hung = queue.enter(applicant("b", 7 * day), now + 20_000).dismissed?.retryAfterSeconds ?? 0;
    assert.ok(hung > 10 * soon, `${soon} ${hung}`);
  });
});

describe("a herd", () => {
  const service = {
    limits: { maxInWork: 8, maxWaiting: 50, maxWait: 15_000 },
    handshakeMs: 1,
    renewMs: 2,
    maxConnections: 5_000,
  };

  function herd(size: number, random: () => number, arriveWithin: number): HerdClient[] {
    return Array.from({ length: size }, (_, index) => {
      const draw = random();
      const left =
        draw < 0.02
          ? 0.25 * hour + random() * 0.75 * hour
          : draw < 0.2
            ? random() * day + hour
            : day + random() * 9 * day;
      return { who: `host-${index}`, left, due: draw < 0.95, arrives: random() * arriveWithin };
    });
  }

  it("whoever obeys Retry-After gets in, in the order of urgency, whatever the herd (property)", () => {
    always(
      property(
        integer({ min: 1, max: 2 ** 31 }),
        integer({ min: 100, max: 4_000 }),
        integer({ min: 0, max: 5_000 }),
        (seed, size, arriveWithin) => {
          const random = generator(seed);
          const clients = herd(size, random, arriveWithin);
          // To the second, with no patience of their own.
          const comesBackAfter = (_: HerdClient, seconds: number): number => seconds * 1000;
          const outcome = runHerd({ ...service, clients, random, comesBackAfter });
          assert.equal(outcome.lost.length, 0);
          assert.equal(outcome.served.length, size);
          assert.equal(outcome.outOfOrder, 0);
          assert.ok(outcome.longestLine <= service.limits.maxWaiting);
          // Told to come back once, and once more when somebody more urgent came meanwhile.
          const attempts = outcome.served.map((served) => served.attempts).toSorted((a, b) => a - b);
          assert.ok(
            (attempts[Math.floor(size * 0.9)] ?? 0) <= 3,
            `nine of ten needed ${attempts[Math.floor(size * 0.9)]}`,
          );
          assert.ok((attempts.at(-1) ?? 0) <= 5, `somebody needed ${attempts.at(-1)}`);
        },
      ),
      { numRuns: 20 },
    );
  });

  it("the urgent are in at their first request, while ten thousand others are sent away", () => {
    const random = generator(7);
    const clients = herd(10_000, random, 4_000);
    const { served } = runHerd({ ...service, maxConnections: 20_000, clients, random });
    const urgent = served.filter(({ client }) => client.due && client.left < hour);
    assert.ok(urgent.length > 100);
    assert.deepEqual([...new Set(urgent.map(({ attempts }) => attempts))], [1]);
    assert.ok(Math.max(...urgent.map(({ inLineMs }) => inLineMs)) < 1_000);
  });

  it("those who come back at once, whatever they are told, do not take the others' places", () => {
    const random = generator(11);
    const clients = herd(2_000, random, 1_000);
    const rude = new Set(clients.filter(({ left }) => left > 5 * day).map(({ who }) => who));
    const outcome = runHerd({ ...service, clients, random, comesBackAfter: ({ who }) => (rude.has(who) ? 50 : null) });
    assert.equal(outcome.served.length, 2_000);
    const polite = outcome.served.filter(({ client }) => client.due && client.left < day);
    assert.ok(Math.max(...polite.map(({ inLineMs }) => inLineMs)) < 2_000);
  });
});

/** The same numbers each time (Lehmer). */
function generator(seed: number): () => number {
  let state = (seed % 2_147_483_646) + 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
