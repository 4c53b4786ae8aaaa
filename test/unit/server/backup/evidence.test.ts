import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Evidence, learn } from "../../../../server/backup/evidence.ts";
import type { CertificateRow } from "../../../../server/store/certificates.ts";
import type { RevocationReason, RevocationRecord } from "../../../../server/store/revocations.ts";
import * as f from "../store/fixture.ts";

const [root, issuer] = f.foundation().issuers;

/** What is learnt about one serial that the store has with this reason, from a CRL that gives that one. */
async function learnt(known: RevocationReason | null, found: string | null, isLeafKnown = true) {
  assert.ok(root && issuer);
  const leaf = f.leaf("gateway-1");
  const row = { ...leaf, firstUsedAt: null, supersededAt: null, revokedAt: null, reason: known } as CertificateRow;
  const records: RevocationRecord[] = known === null ? [] : [f.revocation(leaf, known)];
  const evidence: Evidence = {
    ...f.crl(7, f.t0),
    file: "crl.pem",
    entries: [{ serial: leaf.serial, revokedAt: f.t0 + 5, reason: found }],
  };
  const store = {
    listRevocations: async (id: string) => (id === f.issuerId ? records : []),
    findCertificate: async () => (isLeafKnown ? row : null),
  };
  const lesson = await learn(store, [evidence], [root, issuer]);
  return { ...lesson, reasons: lesson.revocations.map(({ reason }) => reason), leaf, end: issuer.notAfter };
}

describe("what a CRL from elsewhere teaches", () => {
  const cases: readonly (readonly [RevocationReason | null, string | null, readonly RevocationReason[]])[] = [
    [null, null, ["unspecified"]],
    [null, "superseded", ["superseded"]],
    [null, "certificateHold", ["certificateHold"]],
    // Not one of ours, and a reason all the same.
    [null, "aACompromise", ["unspecified"]],
    ["superseded", "superseded", []],
    ["superseded", "keyCompromise", ["keyCompromise"]],
    ["superseded", "cessationOfOperation", []],
    ["certificateHold", "certificateHold", []],
    ["certificateHold", "superseded", ["superseded"]],
    // A hold of before the final reason: the CRL is older than the backup.
    ["superseded", "certificateHold", []],
    ["keyCompromise", "superseded", []],
  ];
  for (const [known, found, expected] of cases) {
    it(`known ${known ?? "as good"}, listed as ${found ?? "no reason"}`, async () => {
      assert.deepEqual((await learnt(known, found)).reasons, expected);
    });
  }

  it("blocks the key of a known leaf that was compromised", async () => {
    const { blockKeys, leaf } = await learnt(null, "keyCompromise");
    assert.deepEqual(blockKeys, [leaf.key]);
  });

  it("keeps an unknown serial on the list for as long as its issuer lives", async () => {
    const { revocations, unknown, blockKeys, end } = await learnt(null, "keyCompromise", false);
    assert.deepEqual([revocations[0]?.notAfter, unknown, blockKeys], [end, 1, []]);
  });
});
