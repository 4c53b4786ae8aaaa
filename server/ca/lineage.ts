/**
 * The lineage rules as one pure function: what a request to renew means, given what the presented leaf is, who its
 * successor is and which key asks. The table is in test/unit/server/ca/lineage.test.ts, every cell named.
 *
 * What must never lock: a crash of either side, a lost answer, a roll-back of files on the host.
 * What must always lock: a superseded leaf that asks to renew with a key of its own; a replaced leaf that authenticates.
 */
import type { PresentedLeaf } from "../store/certificates.ts";
import type { CertificateRow } from "../store/certificates.ts";

export type RenewalAction =
  /** A fresh successor of the presented leaf. */
  | { readonly kind: "issue"; readonly reason: string }
  /** The pending successor once more: its answer was lost. The caller checks that it is still what would be issued now. */
  | { readonly kind: "repeat"; readonly successor: CertificateRow; readonly reason: string }
  /** A fresh leaf in place of the pending successor, which is revoked as superseded. */
  | { readonly kind: "replace"; readonly successor: CertificateRow; readonly reason: string }
  /** The successor that is already in use: the answer was lost and the state rolled back. No conflict. */
  | { readonly kind: "return-successor"; readonly successor: CertificateRow; readonly reason: string }
  /** Two holders of one lineage. */
  | { readonly kind: "lock"; readonly reason: string }
  /** The lineage is locked already. */
  | { readonly kind: "locked"; readonly reason: string };

export interface RenewalQuestion {
  readonly presented: Pick<PresentedLeaf, "state" | "supersededAt" | "reason" | "lineageState">;
  /** The pending or current leaf that the presented one asked for and that was not replaced. */
  readonly successor: CertificateRow | null;
  /** SPKI fingerprint of the request's key. */
  readonly key: string;
}

const locked: RenewalAction = { kind: "locked", reason: "the lineage waits for an operator" };

/** `presented` is a leaf of a real lineage that is not revoked or held for any reason but `superseded`. */
export function decideRenewal({ presented, successor, key }: RenewalQuestion): RenewalAction {
  if (presented.state === "replaced") return { kind: "lock", reason: "a replaced leaf authenticated" };
  if (wasSuperseded(presented)) {
    if (successor?.state === "current" && successor.key === key) {
      if (presented.lineageState === "locked") return locked;
      return { kind: "return-successor", successor, reason: "the key is that of its current successor: a lost answer" };
    }
    return { kind: "lock", reason: "a superseded leaf asked to renew with a key that is not its current successor's" };
  }
  if (presented.lineageState === "locked") return locked;
  if (successor?.state !== "pending") return { kind: "issue", reason: "the current leaf asked" };
  if (successor.key === key) return { kind: "repeat", successor, reason: "the same key asked again" };
  return { kind: "replace", successor, reason: "another key asked before the pending leaf was used" };
}

/** Superseded, also when it was meanwhile revoked as superseded: that revocation says nothing against judging the conflict. */
export function wasSuperseded(leaf: Pick<CertificateRow, "state" | "supersededAt" | "reason">): boolean {
  if (leaf.state === "superseded") return true;
  return leaf.state === "revoked" && leaf.reason === "superseded" && leaf.supersededAt !== null;
}
