/**
 * The one gate before every route of the agents and admin listeners: the presented leaf is in the store byte for byte, in date now,
 * unrevoked, under an issuer still accepted, of an active identity. First match wins, in the order of the steps below.
 */
import { X509Certificate } from "node:crypto";
import { AppError } from "@newleaf/shared/problems";
import { wasSuperseded } from "../ca/lineage.ts";
import type { PresentedLeaf } from "../store/certificates.ts";
import { auditEntry, type Authority, type Caller } from "./authority.ts";
import { acceptedIssuers } from "./issuers.ts";
import { lockForConflict } from "./lineage/lineage.ts";
import { answerOfGate } from "./herd/pauses.ts";
import { networkOf } from "@newleaf/shared/network";
import { noteUnvouched } from "./unvouched.ts";

/** What TLS saw. */
export interface Peer {
  readonly certificate: X509Certificate;
  /** Canonical serial of it. */
  readonly serial: string;
  /** TLS verified it for client authentication up to an accepted issuer, dates aside. */
  readonly verified: boolean;
}

/** A superseded leaf is normal for this long after its successor's first use; later it is a stale use, audited and counted. */
const staleUseAfter = 5 * 60_000;

/**
 * Admits the peer, or throws the first of the gate's codes. A pending leaf is promoted: this request is its first use.
 * `toRenew`: a superseded leaf is let through unjudged, since only the request's key tells a conflict from a lost answer; `renew` judges it.
 * @throws AppError client-certificate-required, certificate-not-trusted, certificate-unknown, lineage-locked, certificate-revoked,
 *   certificate-expired, certificate-superseded, identity-suspended, identity-unknown; rate-limited once a leaf was refused too often
 */
export async function admit(
  authority: Authority,
  caller: Caller,
  peer: Peer | null,
  { toRenew }: { toRenew: boolean },
): Promise<PresentedLeaf> {
  const now = authority.clock.now();
  if (peer === null)
    throw new AppError(
      "client-certificate-required",
      "Present the client certificate of this identity in the TLS handshake",
    );
  const leaf = await findOurs(authority, caller, peer);
  caller.actorKind = leaf.profile === "operator" ? "operator" : "agent";
  caller.actor = leaf.identity;

  await judge(authority, caller, leaf, { now, toRenew });
  if (leaf.state === "pending" && leaf.lineageState === "active") {
    const used = await promote(authority, caller, leaf, now);
    // Replaced or revoked in the same moment: it is judged as what it has become.
    await judge(authority, caller, used, { now, toRenew });
    return used;
  }
  if (leaf.state === "superseded" && !toRenew) await noteStaleUse(authority, caller, leaf, now);
  return leaf;
}

interface Judged {
  readonly now: number;
  readonly toRenew: boolean;
}

async function judge(authority: Authority, caller: Caller, leaf: PresentedLeaf, judged: Judged): Promise<void> {
  try {
    await judgeNow(authority, caller, leaf, judged);
  } catch (error) {
    throw error instanceof AppError ? await answerOfGate(authority, caller, leaf, error) : error;
  }
}

async function judgeNow(
  authority: Authority,
  caller: Caller,
  leaf: PresentedLeaf,
  { now, toRenew }: Judged,
): Promise<void> {
  if (leaf.state === "replaced") {
    await lockForConflict(authority, caller, leaf, { reason: "a replaced leaf authenticated" });
    throw new AppError(
      "lineage-locked",
      "This certificate was replaced before its first use and has no holder; an operator has to decide",
    );
  }
  if (toRenew && wasSuperseded(leaf)) return;
  refuseUnfit(leaf, now, authority.config.lineage.overlap);
}

/** Everything about a leaf of ours that can bar it, in the gate's order. Pure. */
export function refuseUnfit(leaf: PresentedLeaf, now: number, overlap: number): void {
  if (leaf.state === "held") {
    throw new AppError(
      "certificate-revoked",
      "This certificate is on hold; an operator has to release it (newleaf cert release) or revoke it",
    );
  }
  if (leaf.state === "revoked") {
    throw new AppError(
      "certificate-revoked",
      `This certificate was revoked (${leaf.reason ?? "unspecified"}); enroll again with a new key`,
    );
  }
  if (now < leaf.notBefore || now > leaf.notAfter) {
    throw new AppError(
      "certificate-expired",
      `This certificate is valid from ${new Date(leaf.notBefore).toISOString()} to ${new Date(leaf.notAfter).toISOString()}; ask for recovery on the enrollment listener`,
    );
  }
  if (leaf.state === "superseded" && leaf.supersededAt !== null && now > leaf.supersededAt + overlap) {
    throw new AppError(
      "certificate-superseded",
      "Its successor has been in use for longer than the overlap; use the newest certificate",
    );
  }
  if (leaf.identityState === "suspended")
    throw new AppError("identity-suspended", `Identity ${leaf.identity} is suspended by an operator`);
  if (leaf.identityState === "removed")
    throw new AppError("identity-unknown", `Identity ${leaf.identity} was removed from the inventory`);
}

/** A leaf is ours only if the store has its bytes: TLS alone cannot tell (a foreign expired leaf looks like an expired one of ours). */
async function findOurs(authority: Authority, caller: Caller, peer: Peer): Promise<PresentedLeaf> {
  const leaf = await authority.store.findPresented(peer.serial);
  const ours = leaf !== null && peer.certificate.raw.equals(leaf.der);
  if (!ours) {
    const signer = acceptedIssuers(authority.issuers).find((row) => {
      const issuer = new X509Certificate(row.certificate);
      return peer.certificate.checkIssued(issuer) && peer.certificate.verify(issuer.publicKey);
    });
    if (signer === undefined)
      throw new AppError("certificate-not-trusted", "It was not issued by an issuing CA that is accepted here");
    await noteUnvouched(authority, caller, peer, signer.id);
    throw new AppError(
      "certificate-unknown",
      "It bears our issuer's signature but is not in the store; report this to an operator",
    );
  }
  const accepted = leaf.issuerState === "active" || leaf.issuerState === "draining";
  if (!accepted || leaf.profile === "service" || !peer.verified) {
    throw new AppError("certificate-not-trusted", "It is not acceptable as a client certificate here");
  }
  return leaf;
}

async function promote(authority: Authority, caller: Caller, leaf: PresentedLeaf, at: number): Promise<PresentedLeaf> {
  await authority.store.promote({
    serial: leaf.serial,
    at,
    address: caller.address,
    audit: [
      auditEntry(caller, at, "certificate.first-used", leaf.serial, {
        identity: leaf.identity,
        lineage: leaf.lineage,
        generation: leaf.generation,
      }),
    ],
  });
  const used = (await authority.store.findPresented(leaf.serial)) ?? leaf;
  if (used.state === "current") authority.events.promoted(used);
  authority.feed.announceTo(leaf.identity);
  return used;
}

async function noteStaleUse(authority: Authority, caller: Caller, leaf: PresentedLeaf, now: number): Promise<void> {
  if (leaf.supersededAt === null || now <= leaf.supersededAt + staleUseAfter) return;
  authority.events.staleUse(leaf, caller);
  if (!authority.sightings.isFirst(`stale ${leaf.serial} ${networkOf(caller.address)}`, caller)) return;
  await authority.store.recordAudit([
    auditEntry(caller, now, "lineage.stale-use", leaf.lineage ?? leaf.serial, {
      identity: leaf.identity,
      serial: leaf.serial,
      generation: leaf.generation,
    }),
  ]);
}
