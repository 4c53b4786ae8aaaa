import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { auditHash, canonicalJson, genesisHash, verifyAuditChain } from "../../../server/audit-chain.ts";
import type { AuditRow } from "../../../server/store/audit.ts";

function chain(length: number): AuditRow[] {
  const rows: AuditRow[] = [];
  let previousHash = genesisHash;
  for (let seq = 1; seq <= length; seq++) {
    const row = {
      seq,
      at: seq * 1000,
      actorKind: "agent" as const,
      actor: "gateway-1",
      action: "certificate.issued",
      ...(seq % 2 === 0
        ? { target: `serial-${seq}`, detail: { generation: seq } }
        : { requestId: "r", address: "::1" }),
      previousHash,
    };
    previousHash = auditHash(row);
    rows.push({ ...row, hash: previousHash });
  }
  return rows;
}

describe("the audit chain", () => {
  it("hashes a row as anybody can without this code: SHA-256 of its canonical JSON", () => {
    const row = {
      seq: 7,
      at: 1795132800000,
      actorKind: "operator" as const,
      actor: "ann@operators",
      action: "certificate.revoked",
      target: "4a",
      requestId: "r-1",
      address: "127.0.0.1",
      detail: { reason: "keyCompromise", b: [1, null, { d: 2, c: "é" }] },
      previousHash: "ab".repeat(32),
    };
    const text =
      '{"action":"certificate.revoked","actor":"ann@operators","actorKind":"operator","address":"127.0.0.1","at":1795132800000,' +
      '"detail":{"b":[1,null,{"c":"é","d":2}],"reason":"keyCompromise"},' +
      `"previousHash":"${"ab".repeat(32)}","requestId":"r-1","seq":7,"target":"4a"}`;
    assert.equal(auditHash(row), createHash("sha256").update(text, "utf8").digest("hex"));
    assert.equal(canonicalJson(row), text, "the hand-written row is the general rule");
  });

  it("canonical JSON does not depend on the order of members, nor on what JSON drops", () => {
    assert.equal(canonicalJson({ b: 1, a: [undefined, () => 1], c: undefined }), '{"a":[null,null],"b":1}');
    assert.equal(
      canonicalJson({ at: new Date(0), n: Number.NaN, z: -0, e: 1e21 }),
      '{"at":"1970-01-01T00:00:00.000Z","e":1e+21,"n":null,"z":0}',
    );
    assert.equal(
      canonicalJson({ "\u20AC": 1, "\r": 2, "1": 3, "\u{1F600}": 4, "\uFB33": 5 }),
      '{"\\r":2,"1":3,"\u20AC":1,"\u{1F600}":4,"\uFB33":5}',
    );
  });

  it("verifies an untouched chain, whole and in parts", () => {
    const rows = chain(20);
    const last = rows.at(-1)?.hash ?? "";
    assert.deepEqual(verifyAuditChain(rows), { ok: true, rows: 20, lastSeq: 20, lastHash: last });
    assert.deepEqual(verifyAuditChain(rows.slice(10), rows[9]?.hash), {
      ok: true,
      rows: 10,
      lastSeq: 20,
      lastHash: last,
    });
    assert.deepEqual(verifyAuditChain([]), { ok: true, rows: 0, lastSeq: null, lastHash: genesisHash });
  });

  it("names the first row that was altered, whatever the field", () => {
    const changes: readonly Partial<AuditRow>[] = [
      { at: 1 },
      { actorKind: "system" },
      { actor: "mallory" },
      { action: "nothing.happened" },
      { target: "another" },
      { requestId: "x" },
      { address: "x" },
      { detail: { generation: 0 } },
      { hash: "00".repeat(32) },
      { previousHash: "00".repeat(32) },
    ];
    for (const change of changes) {
      const rows = chain(8);
      rows[3] = { ...(rows[3] as AuditRow), ...change };
      const verdict = verifyAuditChain(rows);
      assert.equal(verdict.ok ? null : verdict.seq, 4, JSON.stringify(change));
    }
  });

  it("sees rows that are missing, doubled, moved or rewritten with a hash of their own", () => {
    const rows = chain(8);
    const seqOf = (changed: AuditRow[]) => {
      const verdict = verifyAuditChain(changed);
      return verdict.ok ? null : verdict.seq;
    };
    assert.equal(seqOf(rows.slice(1)), 2, "the first is gone");
    assert.equal(seqOf(rows.toSpliced(3, 1)), 5);
    assert.equal(seqOf(rows.toSpliced(3, 0, rows[3] as AuditRow)), 4);
    assert.equal(seqOf([rows[1] as AuditRow, rows[0] as AuditRow, ...rows.slice(2)]), 2);
    const { hash: _, ...forged } = { ...(rows[3] as AuditRow), actor: "mallory" };
    assert.equal(seqOf(rows.with(3, { ...forged, hash: auditHash(forged) })), 5, "the next row gives the forgery away");
  });
});
