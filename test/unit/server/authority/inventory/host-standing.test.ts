/** Issued, installed, served: what `identity show` makes of them, as a table of what a host may report. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { AgentReport } from "@newleaf/shared/api";
import { judgeStanding, type Seen } from "../../../../../server/authority/inventory/host-standing.ts";
import type { HostReport, LeafBrief } from "../../../../../server/store/standings.ts";

const now = Date.UTC(2026, 10, 20);
const minute = 60_000;
const day = 86_400_000;
const print = (digit: string) => `sha256:${digit.repeat(64)}`;
const leaf = (digit: string, change: Partial<LeafBrief> = {}): LeafBrief => ({
  identity: "gateway-1",
  serial: `4${digit}`,
  fingerprint: print(digit),
  state: "current",
  lineage: "l",
  issuedAt: now - 2 * day,
  notAfter: now + 28 * day,
  renewalEnd: now + 20 * day,
  ...change,
});
const current = leaf("c");
const older = leaf("b", { state: "superseded" });
const next = leaf("d", { state: "pending" });

interface Told {
  readonly installed?: string | null;
  readonly served?: string;
  readonly failure?: AgentReport["failure"];
  readonly since?: number;
  readonly skew?: number;
}

function report({ installed = print("c"), served = print("c"), failure, since, skew = 0 }: Told): HostReport {
  const seen = { address: "10.0.1.42:443", serverName: "g", fingerprint: served, at: "2026-11-19T23:00:00Z" };
  return {
    identity: "gateway-1",
    at: now - minute,
    serial: "4c",
    clockSkew: skew,
    mismatchSince: since ?? null,
    report: {
      certificates: [{ name: "web", installed, served: [seen] }],
      bundleVersion: 1,
      crls: {},
      clock: "2026-11-20T00:00:00Z",
      ...(failure === undefined ? {} : { failure }),
    },
  };
}

const judge = (told: Told | null, change: Partial<Seen> = {}, live: readonly LeafBrief[] = [current]) =>
  judgeStanding({
    row: { id: "gateway-1", profile: "gateway", state: "active", lastSeenAt: now - minute },
    live,
    report: told === null ? null : report(told),
    known: new Map([...live, older].map((one) => [one.fingerprint, one])),
    now,
    ...change,
  });
const failure = { step: "reload", message: "nginx -t failed", at: "2026-11-19T22:00:00Z" };

suite("issued, installed, served", () => {
  test("all three agree: nothing is wrong", () => {
    const { wrong, listeners } = judge({});
    assert.deepEqual(wrong, []);
    assert.deepEqual(listeners, [
      {
        name: "web",
        address: "10.0.1.42:443",
        serverName: "g",
        issued: print("c"),
        installed: print("c"),
        served: print("c"),
        servedAt: "2026-11-19T23:00:00Z",
        state: "in-force",
      },
    ]);
  });

  const table: readonly (readonly [what: string, told: Told | null, change: Partial<Seen>, says: readonly RegExp[]])[] =
    [
      [
        "the leaf before is served",
        { served: print("b"), since: now - 3_600_000, failure },
        {},
        [
          /^Served at 10\.0\.1\.42:443 is the leaf before \(4b\): reload pending since 2026-11-19T23:00:00Z?.*; last failure: reload: nginx -t failed \(2026-11-19T22:00:00Z\)\.$/,
        ],
      ],
      ["something else is served", { served: print("e") }, {}, [/is no leaf of this identity that we issued\.$/]],
      ["nothing is installed", { installed: null }, {}, [/^Nothing is installed as web\.$/]],
      ["an old one is installed", { installed: print("b") }, {}, [/^Installed as web is not the leaf in force\.$/]],
      ["its agent fails", { failure }, {}, [/^Its agent reports: reload: nginx -t failed/]],
      ["its clock is off", { skew: -90_000 }, {}, [/^Its clock is 90 s behind ours\.$/]],
      [
        "it is silent",
        {},
        { row: { id: "gateway-1", profile: "gateway", state: "active", lastSeenAt: now - 3 * day } },
        [/^It has not been heard of since 2026-11-17/],
      ],
      ["no agent reports", null, {}, [/^No agent has ever reported for it\.$/]],
      [
        "no certificate yet",
        null,
        { live: [], row: { id: "gateway-1", profile: "gateway", state: "active", lastSeenAt: null } },
        [/^It has no certificate yet\.$/],
      ],
      ["its certificate ended", {}, { live: [] }, [/newleaf identity grant-recovery gateway-1/]],
      [
        "it is overdue",
        {},
        { live: [leaf("c", { renewalEnd: now - day })] },
        [/^Its leaf should have been renewed by 2026-11-19/],
      ],
      [
        "it is suspended",
        { served: print("b") },
        { row: { id: "gateway-1", profile: "gateway", state: "suspended", lastSeenAt: now } },
        [/^It is suspended/],
      ],
    ];
  for (const [what, told, change, says] of table) {
    test(what, () => {
      const { wrong } = judge(told, change);
      assert.equal(wrong.length, says.length, wrong.join("\n"));
      for (const [at, pattern] of says.entries()) assert.match(wrong[at] ?? "", pattern);
    });
  }

  test("a revoked leaf, another identity's and the one that comes next are told apart", () => {
    const state = (served: LeafBrief, live = [current]) =>
      judge({ served: served.fingerprint }, { known: new Map([[served.fingerprint, served]]) }, live).listeners[0]
        ?.state;
    assert.equal(state(leaf("a", { state: "revoked" })), "withdrawn");
    assert.equal(state(leaf("a", { identity: "gateway-2" })), "foreign");
    assert.equal(state(older), "before");
    assert.deepEqual(
      judge({ installed: print("c"), served: print("c") }, {}, [next, current]).listeners[0]?.state,
      "before",
      "a newer one is released",
    );
  });

  test("operators have no host that could be wrong", () => {
    const row = { id: "kim", profile: "operator", state: "active", lastSeenAt: now - 30 * day } as const;
    assert.deepEqual(judge(null, { row }).wrong, []);
  });
});
