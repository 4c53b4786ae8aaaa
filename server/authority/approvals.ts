/** An operator says yes or no to a request that waits, seeing identity, names and fingerprint. */
import { AppError } from "@newleaf/shared/problems";
import { readCsr } from "../ca/csr.ts";
import type { CertificateRow } from "../store/certificates.ts";
import type { RequestRow } from "../store/enrollments.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "./authority.ts";
import { admissible, beginLineage } from "./enroll.ts";
import { requireTouchOfProfile } from "./permissions.ts";

export interface Decision {
  readonly decision: "approve" | "deny";
  /** Needed to approve: who the key is to be. */
  readonly identity?: string;
  /** Must be the request's: the operator decides on a key, not on a number. */
  readonly fingerprint: string;
}

export interface Decided {
  readonly request: RequestRow;
  readonly certificate: CertificateRow | null;
}

/**
 * @throws AppError not-found, conflict (decided already, or another fingerprint), request-invalid, not-permitted, and what enrollment refuses
 */
export async function decideRequest(
  authority: Authority,
  caller: Caller,
  id: string,
  decision: Decision,
): Promise<Decided> {
  caller.target = id;
  return onFreshBasis(async () => {
    const now = authority.clock.now();
    const request = await authority.store.findRequest(id, now);
    if (request === null)
      throw new AppError("not-found", `There is no enrollment request ${id}; requests live for a day`);
    if (request.key !== decision.fingerprint) {
      throw new AppError(
        "conflict",
        `The fingerprint is not this request's (${request.key}); compare it on the host before you approve`,
      );
    }
    if (request.state !== "pending") throw new AppError("conflict", `Request ${id} is already ${request.state}`);
    const certificate =
      decision.decision === "deny"
        ? await deny(authority, caller, request)
        : await approve(authority, caller, request, decision);
    authority.events.acted(`enrollment.${decision.decision === "deny" ? "denied" : "approved"}`, caller, {
      request: id,
      identity: decision.identity,
    });
    const decided = await authority.store.findRequest(id, now);
    return { request: decided ?? request, certificate };
  });
}

async function deny(authority: Authority, caller: Caller, request: RequestRow): Promise<null> {
  const at = authority.clock.now();
  await authority.store.denyRequest(request.id, caller.actor, at, [
    auditEntry(caller, at, "enrollment.denied", request.id, { key: request.key }),
  ]);
  return null;
}

async function approve(
  authority: Authority,
  caller: Caller,
  request: RequestRow,
  decision: Decision,
): Promise<CertificateRow> {
  if (decision.identity === undefined)
    throw new AppError("request-invalid", "Say which identity the request is approved for: `identity`");
  const identity = await admissible(authority, decision.identity);
  requireTouchOfProfile(caller, identity.profile);
  const csr = readCsr(request.csr);
  const known = await authority.store.findKey(csr.key);
  if (known?.blockedAt != null) throw new AppError("key-blocked", "This key was revoked as compromised");
  if (known !== null && known.identity !== identity.id)
    throw new AppError("key-in-use", `This key belongs to ${known.identity}`);
  return beginLineage(authority, caller, {
    csr,
    identity,
    kind: "enrollment",
    spends: { requestId: request.id },
    facts: { by: "approval", request: request.id },
    decidedBy: caller.actor,
  });
}
