/** What status says of a journal, every word named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Hold } from "../../../../agent-client/decide/choice.ts";
import { blankJournal, type Failure, type Journal, type RetryKind } from "../../../../agent-client/journal.ts";
import { announcedOf, nextOf, quarantineOf, stateOf, withDisk } from "../../../../agent-client/status/outlook.ts";
import { held } from "../../../support/held-leaf.ts";

const now = 50;
const leaf = held("old", { notAfter: 10_000 });
const next = held("new", { notAfter: 20_000 });

function failing(kind: RetryKind, code: string, notBefore = 500): Pick<Journal, "retries"> {
  const error: Failure = { step: "asked", message: "m", code, at: 1 };
  return { retries: { ...blankJournal.retries, [kind]: { failures: 2, notBefore, error } } };
}

const quarantine = { version: "v2", row: "broke", since: 7, detail: "d", contents: null, leaf: "new", clients: null };
const notServed = { version: "v", since: 1, detail: "" };
const announced: Hold = { why: "announced", until: 900 };

const rows: readonly (readonly [
  what: string,
  journal: Partial<Journal>,
  hold: Hold | null,
  state: string,
  next: RegExp,
])[] = [
  ["nothing held", { current: null }, null, "not-enrolled", /^enroll$/],
  ["waits for an operator", { current: null, ...failing("ask", "waiting") }, null, "waiting", /^enroll$/],
  ["all is well", {}, null, "ok", /^renew$/],
  ["expired", { current: held("old", { notAfter: 10 }) }, null, "expired", /recovery/],
  ["a new leaf on its way", { next }, null, "installing", /install, prove and report/],
  [
    "clients are told",
    { next, announced: { fingerprint: "new", at: 10 } },
    announced,
    "announced",
    /switch to the ann/,
  ],
  ["to be announced", { next }, { why: "unannounced", until: 900 }, "announced", /announce the next certificate/],
  [
    "the announcement fails",
    { next, ...failing("announce", "before-switch") },
    { why: "unannounced", until: 900 },
    "failing",
    /announce the next certificate/,
  ],
  [
    "taken back",
    { next, quarantine, ...failing("quarantine", "taken-back") },
    null,
    "taken-back",
    /try what was taken/,
  ],
  ["not served", { next, notServed }, null, "not-served", /reload and probe again/],
  [
    "revoked",
    failing("ask", "certificate-revoked"),
    null,
    "refused",
    /refused until an operator acts \(certificate-rev/,
  ],
  ["revoked, says the report", failing("report", "certificate-revoked"), null, "refused", /refused until an operator/],
  ["the service is down", failing("ask", "unreachable"), null, "failing", /^renew$/],
  ["cannot install", { next, ...failing("install", "install") }, null, "failing", /install again/],
];

for (const [what, change, hold, state, action] of rows) {
  test(`status: ${what}: ${state}`, () => {
    const journal: Journal = { ...blankJournal, current: leaf, ...change };
    assert.equal(stateOf(journal, "served", hold, now), state);
    assert.match(nextOf(journal, hold, now).action, action);
  });
}

test("what is presented counts more than what the journal hopes", () => {
  const journal: Journal = { ...blankJournal, current: leaf };
  assert.equal(stateOf(journal, "unreachable", null, now), "not-served");
  assert.equal(stateOf(journal, "not-served", null, now), "not-served");
  assert.equal(stateOf(journal, "not-probed", null, now), "ok");
});

test("files that somebody spoilt are not ok, however well the server does; what is worse stays", () => {
  const ok = { state: "ok", next: { action: "renew", at: null } } as const;
  const { state, next: then } = withDisk(ok, true, now);
  assert.deepEqual([state, then.action], ["failing", "put the files on disk right"]);
  assert.deepEqual(withDisk(ok, false, now), ok);
  const worse = { ...ok, state: "not-served" } as const;
  assert.deepEqual(withDisk(worse, true, now), worse);
});

test("when it switches and when it tries again are said, as times", () => {
  const journal: Journal = { ...blankJournal, current: leaf, next, quarantine, ...failing("quarantine", "x", 800) };
  const told: Journal = { ...journal, announced: { fingerprint: "new", at: 10 } };
  const at = (ms: number): string => new Date(ms).toISOString();
  assert.deepEqual(announcedOf(told, announced), { fingerprint: "new", at: at(10), switchesAt: at(900) });
  assert.equal(announcedOf(told, { why: "unannounced", until: 900 })?.at, null);
  assert.equal(announcedOf(told, { why: "quarantined", until: 900 }), null);
  assert.deepEqual(quarantineOf(journal, now), { row: "broke", since: at(7), detail: "d", retryAt: at(800) });
  assert.equal(quarantineOf({ ...journal, quarantine: null }, now), null);
});
