import assert from "node:assert/strict";
import { test } from "node:test";
import { decideRenewal, type RenewalAction } from "../../../../server/ca/lineage.ts";
import type { CertificateRow, StoredCertificateState } from "../../../../server/store/certificates.ts";
import type { LineageState } from "../../../../server/store/lineages.ts";

type PresentedState = StoredCertificateState | "revoked as superseded";
type Successor = "none" | "pending" | "current" | "superseded";
type Key = "its own" | "the successor's";

interface Cell {
  readonly presented: PresentedState;
  readonly successor: Successor;
  readonly key: Key;
  readonly lineage?: LineageState;
  readonly means: RenewalAction["kind"];
}

/** Every cell of the table: what is presented, what became of it, which key asks. */
const table: readonly Cell[] = [
  { presented: "current", successor: "none", key: "its own", means: "issue" },
  { presented: "current", successor: "pending", key: "the successor's", means: "repeat" },
  { presented: "current", successor: "pending", key: "its own", means: "replace" },
  { presented: "superseded", successor: "current", key: "the successor's", means: "return-successor" },
  { presented: "superseded", successor: "current", key: "its own", means: "lock" },
  { presented: "superseded", successor: "superseded", key: "the successor's", means: "lock" },
  { presented: "superseded", successor: "superseded", key: "its own", means: "lock" },
  { presented: "superseded", successor: "pending", key: "the successor's", means: "lock" },
  { presented: "superseded", successor: "none", key: "its own", means: "lock" },
  { presented: "revoked as superseded", successor: "current", key: "its own", means: "lock" },
  { presented: "revoked as superseded", successor: "none", key: "its own", means: "lock" },
  { presented: "revoked as superseded", successor: "current", key: "the successor's", means: "return-successor" },
  { presented: "replaced", successor: "none", key: "its own", means: "lock" },
  { presented: "replaced", successor: "current", key: "the successor's", means: "lock" },
  { presented: "current", successor: "none", key: "its own", lineage: "locked", means: "locked" },
  { presented: "current", successor: "pending", key: "the successor's", lineage: "locked", means: "locked" },
  { presented: "pending", successor: "none", key: "its own", lineage: "locked", means: "locked" },
  { presented: "superseded", successor: "current", key: "its own", lineage: "locked", means: "lock" },
  { presented: "superseded", successor: "current", key: "the successor's", lineage: "locked", means: "locked" },
];

for (const cell of table) {
  const lineage = cell.lineage ?? "active";
  test(`a ${cell.presented} leaf with ${cell.successor} successor and ${cell.key} key in a lineage that is ${lineage}: ${cell.means}`, () => {
    const { action, successor } = decide(cell, lineage);
    assert.equal(action.kind, cell.means);
    assert.ok(action.reason.length > 0);
    if ("successor" in action) assert.equal(action.successor, successor);
  });
}

function decide(cell: Cell, lineageState: LineageState): { action: RenewalAction; successor: CertificateRow | null } {
  const successor =
    cell.successor === "none" ? null : ({ state: cell.successor, key: "sha256:b", serial: "b" } as CertificateRow);
  const revoked = cell.presented === "revoked as superseded";
  const action = decideRenewal({
    presented: {
      state: cell.presented === "revoked as superseded" ? "revoked" : cell.presented,
      supersededAt: revoked || cell.presented === "superseded" ? 1 : null,
      reason: revoked ? "superseded" : null,
      lineageState,
    },
    successor,
    key: cell.key === "its own" ? "sha256:c" : "sha256:b",
  });
  return { action, successor };
}
