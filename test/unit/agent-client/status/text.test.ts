/** What `status` says to people, where a wrong word would send them to the wrong place at night. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AgentStatus, CertificateStatus } from "../../../../agent-client/status/shape.ts";
import { formatStatus } from "../../../../agent-client/status/status.ts";
import { type CanaryStatus, canaryLine } from "../../../../agent-client/status/proofs.ts";

const canary: CanaryStatus = { address: "gw:443", good: true, revoked: true, problem: null, warnings: [] };

describe("the canary line", () => {
  it("says NOT ENFORCED of a client that got in or was turned away, and of nothing else", () => {
    assert.match(
      canaryLine([{ ...canary, revoked: false, problem: "lets a revoked client in" }]) ?? "",
      /^NOT ENFORCED/,
    );
    assert.match(canaryLine([{ ...canary, good: false, problem: "turns a good client away" }]) ?? "", /^NOT ENFORCED/);
    const down = { ...canary, good: null, revoked: null, problem: "nothing listens there", warnings: ["revoke it"] };
    assert.equal(canaryLine([down]), "not proved: nothing listens there");
  });

  it("names both clients when all is well", () => {
    assert.equal(canaryLine([canary]), "the good client is let in, the revoked one is turned away");
    assert.equal(canaryLine([]), null);
  });
});

describe("the text of status", () => {
  it("names what failed by the work, not by the step it began from", () => {
    const text = formatStatus(
      statusOf({ failures: [{ ...failure, work: "install", step: "checked", code: "install" }] }),
    );
    assert.match(text, /failed +to install at 2026-11-20T17:00:00.000Z, 2×: install: no space/);
  });

  it("says once what to do about one cause of several failures", () => {
    const down = { ...failure, step: "asked", code: "unreachable", advice: "start the service" };
    const text = formatStatus(
      statusOf({
        failures: [
          { ...down, work: "ask" },
          { ...down, work: "window" },
        ],
      }),
    );
    assert.equal(text.split("do: start the service").length, 2);
    assert.ok(text.indexOf("do: start") > text.indexOf("failed   to ask when to renew"));
  });

  it("says that one good handshake does not take back a failed proof", () => {
    assert.match(formatStatus(statusOf({})), /served +yes, seen just now at gw:443\n/);
    const text = formatStatus(
      statusOf({ failures: [{ ...failure, work: "serve", step: "served", code: "not-served" }] }),
    );
    assert.match(text, /served +yes, seen just now at gw:443; the next pass has to prove it\n/);
  });

  it("says that what is served is what is on disk when a newer certificate is held", () => {
    assert.match(formatStatus(statusOf({ fingerprint: "sha256:new" })), /served +yes, what is on disk, seen just now/);
  });
});

const failure = {
  message: "no space",
  at: "2026-11-20T17:00:00.000Z",
  retryAt: "2026-11-20T17:05:00.000Z",
  failures: 2,
  advice: null,
};

function statusOf(changes: Partial<CertificateStatus>): AgentStatus {
  const certificate: CertificateStatus = {
    name: "gateway",
    state: "ok",
    identity: "gateway-1",
    serial: "01",
    fingerprint: "sha256:old",
    lineage: "l",
    generation: 1,
    notBefore: "2026-11-01T00:00:00.000Z",
    notAfter: "2026-12-01T00:00:00.000Z",
    step: "idle",
    installed: { fingerprint: "sha256:old", version: "v1", problems: [] },
    served: {
      state: "served",
      seen: [{ address: "gw:443", fingerprint: "sha256:old", error: null }],
      lastProvedAt: null,
    },
    canaries: [],
    health: [],
    reload: "watch",
    next: { action: "renew", at: null },
    announced: null,
    quarantine: null,
    failures: [],
    ...changes,
  };
  return {
    running: null,
    clock: "2026-11-20T17:01:00.000Z",
    bundleVersion: 1,
    systemTrust: null,
    crls: [],
    certificates: [certificate],
  };
}
