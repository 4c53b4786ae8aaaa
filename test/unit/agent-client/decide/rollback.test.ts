/** The table of the way back, every cell named. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProbeVerdict } from "../../../../agent-client/probe/probe.ts";
import {
  type Aftermath,
  blame,
  judge,
  type ReloadSaid,
  type RowName,
  type Sight,
  type Way,
  worstOf,
} from "../../../../agent-client/decide/rollback.ts";

/** A new leaf with new CRLs, on a proxy that was well, with a good set before. */
const base: Aftermath = {
  sight: "served",
  reload: "ok",
  healthyBefore: true,
  wayBack: true,
  news: { leaf: true, clients: true, form: false },
  olderCrlsValid: true,
};
const down = { healthyBefore: false } as const;
const noWay = { wayBack: false } as const;
const crlOnly = { news: { leaf: false, clients: true, form: false } } as const;
const leafOnly = { news: { leaf: true, clients: false, form: false } } as const;
const formOnly = { news: { leaf: false, clients: false, form: true } } as const;
const nothingNew = { news: { leaf: false, clients: false, form: false }, wayBack: false } as const;
const crlsOver = { olderCrlsValid: false } as const;
const refused = { reload: "refused" } as const;
const failed = { reload: "failed" } as const;

const table: readonly (readonly [cell: string, given: Partial<Aftermath>, row: RowName, way: Way])[] = [
  ["new leaf seen", {}, "served", "commit"],
  ["new leaf seen, although the reload reported an error", refused, "served", "commit"],
  ["new leaf seen, although the proxy could not be told", failed, "served", "commit"],
  ["new leaf seen, the proxy was down before", down, "served", "commit"],
  ["new CRLs, told", crlOnly, "served", "commit"],
  ["new CRLs, refused", { ...crlOnly, ...refused }, "refused-unseen", "swap-back"],
  [
    "new CRLs, refused, the older ones are over",
    { ...crlOnly, ...refused, ...crlsOver },
    "unproven",
    "keep-and-tell-again",
  ],
  ["new CRLs, refused, no set to go back to", { ...crlOnly, ...refused, ...noWay }, "unproven", "keep-and-tell-again"],
  ["new CRLs, the proxy could not be told", { ...crlOnly, ...failed }, "untold-clients", "keep-and-tell-again"],
  ["new template, refused", { ...formOnly, ...refused }, "refused-unseen", "swap-back"],
  ["new template, could not be told", { ...formOnly, ...failed }, "untold-clients", "keep-and-tell-again"],
  ["nothing new, told again, refused, served", { ...nothingNew, ...refused }, "served", "commit"],

  ["check failed", { sight: "check-failed" }, "check-failed", "swap-back"],
  ["check failed, the proxy was down before", { sight: "check-failed", ...down }, "check-failed", "swap-back"],
  ["check failed, no way back", { sight: "check-failed", ...noWay }, "check-failed-for-good", "keep-and-alarm"],

  ["no probe, told", { sight: "unprobed" }, "told", "commit"],
  ["no probe, refused", { sight: "unprobed", ...refused }, "refused-unprobed", "swap-back"],
  ["no probe, refused, no way back", { sight: "unprobed", ...refused, ...noWay }, "untold", "keep-and-tell-again"],
  ["no probe, could not be told", { sight: "unprobed", ...failed }, "untold", "keep-and-tell-again"],

  ["dead", { sight: "dead" }, "died", "swap-back"],
  ["dead, and the reload said no", { sight: "dead", ...refused }, "died", "swap-back"],
  ["dead after new CRLs", { sight: "dead", ...crlOnly }, "died", "swap-back"],
  ["dead, no way back", { sight: "dead", ...noWay }, "died-for-good", "keep-and-alarm"],
  ["dead, as before", { sight: "dead", ...down }, "down-before", "keep-and-tell-again"],

  ["handshakes fail", { sight: "broken" }, "broke", "swap-back"],
  ["handshakes fail after new CRLs", { sight: "broken", ...crlOnly }, "broke", "swap-back"],
  ["handshakes fail, no way back", { sight: "broken", ...noWay }, "broke-for-good", "keep-and-alarm"],
  ["handshakes fail, as before", { sight: "broken", ...down }, "broken-before", "keep-and-tell-again"],

  ["does not verify", { sight: "unverified" }, "unverified", "swap-back"],
  ["does not verify, no way back", { sight: "unverified", ...noWay }, "unverified-for-good", "keep-and-alarm"],
  ["does not verify, was not well before", { sight: "unverified", ...down }, "unverified-for-good", "keep-and-alarm"],

  ["no health", { sight: "unhealthy" }, "unhealthy", "swap-back"],
  ["no health, no way back", { sight: "unhealthy", ...noWay }, "unhealthy-for-good", "keep-and-alarm"],
  ["no health, as before", { sight: "unhealthy", ...down }, "unhealthy-for-good", "keep-and-alarm"],

  ["good client refused after new CRLs", { sight: "canary-refused", ...crlOnly }, "clients-refused", "swap-back"],
  ["good client refused after new leaf and CRLs", { sight: "canary-refused" }, "clients-refused", "swap-back"],
  [
    "good client refused, the older CRLs are over",
    { sight: "canary-refused", ...crlOnly, ...crlsOver },
    "clients-refused-for-good",
    "keep-and-alarm",
  ],
  [
    "good client refused after a new leaf alone",
    { sight: "canary-refused", ...leafOnly },
    "clients-refused-for-good",
    "keep-and-alarm",
  ],
  [
    "good client refused, as before",
    { sight: "canary-refused", ...crlOnly, ...down },
    "clients-refused-for-good",
    "keep-and-alarm",
  ],
  [
    "good client refused, no way back",
    { sight: "canary-refused", ...crlOnly, ...noWay },
    "clients-refused-for-good",
    "keep-and-alarm",
  ],
  ["revoked client let in", { sight: "canary-passed" }, "revoked-let-in", "keep-and-alarm"],
  ["revoked client let in after new CRLs", { sight: "canary-passed", ...crlOnly }, "revoked-let-in", "keep-and-alarm"],

  ["old leaf", { sight: "old" }, "old-served", "keep-and-tell-again"],
  ["old leaf, the proxy could not be told", { sight: "old", ...failed }, "old-served", "keep-and-tell-again"],
  ["old leaf, the proxy refused the new one", { sight: "old", ...refused }, "refused", "swap-back"],
  ["old leaf, refused, no way back", { sight: "old", ...refused, ...noWay }, "old-served", "keep-and-tell-again"],
  ["another leaf", { sight: "other" }, "other-served", "keep-and-tell-again"],
  ["another leaf, refused", { sight: "other", ...refused }, "refused", "swap-back"],
  ["another leaf, refused, as before", { sight: "other", ...refused, ...down }, "other-served", "keep-and-tell-again"],
];

for (const [cell, given, row, way] of table) {
  test(`${cell}: ${row}`, () => {
    const judged = judge({ ...base, ...given });
    assert.deepEqual([judged.name, judged.way], [row, way]);
  });
}

/** Every combination of what the table looks at. */
function* everything(): Generator<Aftermath> {
  const sights: readonly Sight[] = [
    ...(["check-failed", "unprobed", "dead", "served", "old", "other", "broken", "unverified", "unhealthy"] as const),
    ...(["canary-refused", "canary-passed"] as const),
  ];
  const replies: readonly ReloadSaid[] = ["ok", "refused", "failed"];
  for (const sight of sights)
    for (const reload of replies)
      for (let bits = 0; bits < 64; bits += 1) {
        const is = (bit: number): boolean => (bits & (1 << bit)) !== 0;
        const news = { leaf: is(3), clients: is(4), form: is(5) };
        yield { sight, reload, healthyBefore: is(0), wayBack: is(1), olderCrlsValid: is(2), news };
      }
}

test("whatever is seen has a row, and nothing swaps back without a way back", () => {
  for (const aftermath of everything()) {
    const row = judge(aftermath);
    const said = JSON.stringify(aftermath);
    assert.ok(row.sentence.length > 10);
    if (row.way === "swap-back") assert.ok(aftermath.wayBack, said);
    if (row.way === "swap-back" && row.harm) assert.ok(aftermath.healthyBefore, said);
    if (row.way === "commit") assert.ok(aftermath.sight === "served" || aftermath.sight === "unprobed", said);
    if (row.start) assert.ok(aftermath.sight === "dead" && aftermath.healthyBefore, said);
    if (aftermath.sight === "dead" && aftermath.healthyBefore) assert.ok(row.start, said);
    if (row.name === "clients-refused") assert.ok(aftermath.olderCrlsValid, said);
  }
});

test("every row of the table is one of the cells above", () => {
  const reached = new Set([...everything()].map((aftermath) => judge(aftermath).name));
  const named = new Set(table.map(([, , row]) => row));
  assert.deepEqual([...reached].toSorted(), [...named].toSorted());
});

test("a way back that is taken says so, and what it says fits a log line", () => {
  for (const aftermath of everything()) {
    const { way, sentence } = judge(aftermath);
    assert.equal(sentence.includes("the new set was taken back"), way === "swap-back", sentence);
    assert.doesNotMatch(sentence, /\n/);
  }
});

test("the leaf is blamed when there is a new one, the CRLs when they alone are new or clients are refused", () => {
  const [both, leaf, clients, form] = [base.news, leafOnly.news, crlOnly.news, formOnly.news];
  assert.equal(blame({ name: "broke" }, both), "leaf");
  assert.equal(blame({ name: "broke" }, leaf), "leaf");
  assert.equal(blame({ name: "broke" }, clients), "clients");
  assert.equal(blame({ name: "clients-refused" }, both), "clients");
  assert.equal(blame({ name: "refused-unseen" }, form), null, "a template is blamed as the set it made");
});

test("the worst of several probes counts, and nobody listening is worse than broken handshakes", () => {
  const verdict = (outcome: ProbeVerdict["outcome"], reachable = true): ProbeVerdict => ({
    outcome,
    reachable,
    fingerprint: null,
    detail: outcome,
    handshakes: 9,
    at: 0,
  });
  assert.deepEqual(worstOf([]), { sight: "unprobed", verdict: null });
  assert.equal(worstOf([verdict("served"), verdict("old")]).sight, "old");
  assert.equal(worstOf([verdict("broken"), verdict("broken", false)]).sight, "dead");
  assert.equal(worstOf([verdict("old"), verdict("canary-refused"), verdict("served")]).sight, "canary-refused");
  assert.equal(worstOf([verdict("served"), verdict("served")]).sight, "served");
});
