/**
 * The audit log's hash chain. Pure, so that anyone who holds a copy can verify it with this file alone, or without it:
 * a row's `hash` is the SHA-256, in lower-case hex, of the RFC 8785 canonical JSON (UTF-8, sorted members, no white space) of the
 * row without `hash`; absent members are left out. `jq -cjS 'del(.hash)' | sha256sum` agrees on one exported row.
 */
import { hash } from "node:crypto";
import type { AuditRow } from "./store/audit.ts";

/** `previousHash` of the first row. */
export const genesisHash = "0".repeat(64);

export type AuditVerdict =
  | { readonly ok: true; readonly rows: number; readonly lastSeq: number | null; readonly lastHash: string }
  | { readonly ok: false; readonly seq: number; readonly reason: string };

/** Hex SHA-256 that belongs in `hash`: over every other field of the row, `previousHash` included. */
export function auditHash(row: Omit<AuditRow, "hash">): string {
  return hash("sha256", canonicalRow(row), "hex");
}

/**
 * Checks rows in chain order: each follows the one before it and its hash is right. Answers the first that does not.
 *
 * A part of the chain is verified by giving `startHash`, the hash of the row before the first; without it the first row must be
 * row 1. Rows cut off at the end cannot be seen from inside the chain: compare `lastSeq` and `lastHash` with a copy kept elsewhere.
 */
export function verifyAuditChain(rows: Iterable<AuditRow>, startHash?: string): AuditVerdict {
  let previousHash = startHash ?? genesisHash;
  let previousSeq = startHash === undefined ? 0 : null;
  let count = 0;
  for (const row of rows) {
    if (previousSeq !== null && row.seq !== previousSeq + 1) {
      return { ok: false, seq: row.seq, reason: `it follows row ${previousSeq}: rows are missing or out of order` };
    }
    if (row.previousHash !== previousHash) {
      return { ok: false, seq: row.seq, reason: "its previousHash is not the hash of the row before it" };
    }
    if (auditHash(row) !== row.hash) {
      return { ok: false, seq: row.seq, reason: "its hash is not the hash of its content: the row was altered" };
    }
    previousHash = row.hash;
    previousSeq = row.seq;
    count += 1;
  }
  return { ok: true, rows: count, lastSeq: count === 0 ? null : previousSeq, lastHash: previousHash };
}

/** RFC 8785 for values that came from JSON or can go there: members sorted by UTF-16 code units, ECMAScript numbers and strings. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) {
    return `[${value.map((item: unknown) => (item === undefined ? "null" : canonicalJson(item))).join(",")}]`;
  }
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if ("toJSON" in value && typeof value.toJSON === "function") return canonicalJson(JSON.parse(JSON.stringify(value)));
  let text = "";
  for (const key of Object.keys(value).toSorted()) {
    const member = (value as Record<string, unknown>)[key];
    if (member === undefined || typeof member === "function" || typeof member === "symbol") continue;
    text += `${text === "" ? "" : ","}${JSON.stringify(key)}:${canonicalJson(member)}`;
  }
  return `{${text}}`;
}

/** `canonicalJson` of the row, written out because the log is verified at hundreds of thousands of rows a second. */
function canonicalRow(row: Omit<AuditRow, "hash">): string {
  const address = row.address === undefined ? "" : `,"address":${JSON.stringify(row.address)}`;
  const detail = row.detail === undefined ? "" : `,"detail":${canonicalJson(row.detail)}`;
  const requestId = row.requestId === undefined ? "" : `,"requestId":${JSON.stringify(row.requestId)}`;
  const target = row.target === undefined ? "" : `,"target":${JSON.stringify(row.target)}`;
  return (
    `{"action":${JSON.stringify(row.action)},"actor":${JSON.stringify(row.actor)},"actorKind":${JSON.stringify(row.actorKind)}` +
    `${address},"at":${row.at}${detail},"previousHash":${JSON.stringify(row.previousHash)}${requestId},"seq":${row.seq}${target}}`
  );
}
