/** An operator says yes or no to a request that waits, seeing identity, names and fingerprint, and who said yes before. */
import { AppError } from "@newleaf/shared/problems";
import { readCsr } from "../../ca/csr.ts";
import type { CertificateRow } from "../../store/certificates.ts";
import type { ApprovalRow, RequestRow } from "../../store/enrollments.ts";
import type { IdentityRow } from "../../store/identities.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { admissible, beginLineage, checkRequest } from "./enroll.ts";
import { requireTouch, requireTouchOfProfile } from "../permissions.ts";
import { approvalsNeeded, approversOf, findYeses, peopleOf, voiceOf, type Yes, type Yeses } from "./two-persons.ts";

export interface Decision {
  readonly decision: "approve" | "deny";
  /** Needed to approve: who the key is to be. */
  readonly identity?: string;
  /** Must be the request's: the operator decides on a key, not on a number. */
  readonly fingerprint: string;
}

export interface Decided {
  readonly request: RequestRow;
  /** Null when it was denied, or waits for another operator. */
  readonly certificate: CertificateRow | null;
}

/**
 * @throws AppError not-found, conflict (decided already, another fingerprint, or a second yes of the same operator), request-invalid,
 *   not-permitted, and what enrollment refuses
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
    const what = decision.decision === "deny" ? "denied" : certificate === null ? "first-approval" : "approved";
    authority.events.acted(`enrollment.${what}`, caller, { request: id, identity: decision.identity });
    const decided = await authority.store.findRequest(id, now);
    return { request: decided ?? request, certificate };
  });
}

/** One no ends it, however many have said yes. */
async function deny(authority: Authority, caller: Caller, request: RequestRow): Promise<null> {
  for (const { identity } of await authority.store.listApprovals(request.id)) {
    await requireTouch(authority, caller, identity);
  }
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
): Promise<CertificateRow | null> {
  if (decision.identity === undefined)
    throw new AppError("request-invalid", "Say which identity the request is approved for: `identity`");
  const identity = await admissible(authority, decision.identity);
  requireTouchOfProfile(caller, identity.profile);
  const csr = readCsr(request.csr);
  const known = await authority.store.findKey(csr.key);
  if (known?.blockedAt != null) throw new AppError("key-blocked", "This key was revoked as compromised");
  if (known !== null && known.identity !== identity.id)
    throw new AppError("key-in-use", `This key belongs to ${known.identity}`);
  checkRequest(authority, csr, identity);

  const yeses = await findYeses(authority, request, identity);
  refuseOtherIdentity(yeses.known, identity.id);
  const needed = approvalsNeeded(authority.config, identity.profile);
  const mine = needed < 2 ? null : await myYes(authority, caller, identity, yeses);
  const all = mine === null ? [] : [...yeses.counting, mine];
  if (mine !== null && peopleOf(all).size < needed) {
    await noteYes(authority, caller, request, { identity, mine, yeses, needed });
    return null;
  }
  const { admission } = yeses;
  const people = all.map(({ by, how }) => ({ by, how }));
  return beginLineage(authority, caller, {
    csr,
    identity,
    kind: admission?.kind ?? "enrollment",
    spends: {
      ...admission?.spends,
      requestId: request.id,
      approvals: yeses.known,
      ...(mine === null ? {} : { approvers: approversOf(all) }),
    },
    facts: {
      ...admission?.facts,
      by: "approval",
      request: request.id,
      ...(mine === null ? {} : { approvals: people }),
    },
    decidedBy: caller.actor,
  });
}

/** A token says who its holder is to be; an approval cannot make him somebody else. */
function refuseOtherIdentity(known: readonly ApprovalRow[], identity: string): void {
  const admission = known.find((row) => row.how !== "approval");
  if (admission === undefined || admission.identity === identity) return;
  throw new AppError(
    "conflict",
    `The request came with what admits ${admission.identity} (${admission.how}), not ${identity}; approve it as that or deny it`,
  );
}

/**
 * The caller's own yes, judged as those of the others: from the store, at this moment.
 * @throws AppError not-permitted (his own identity, or a role that was lifted), conflict (he said yes before, in whatever way)
 */
async function myYes(authority: Authority, caller: Caller, identity: IdentityRow, yeses: Yeses): Promise<Yes> {
  const by = caller.actor;
  if (by === identity.id)
    throw new AppError("not-permitted", `${by} cannot approve a certificate of his own; others have to`);
  const revision = await voiceOf(authority, by, "approval", identity);
  if (revision === null)
    throw new AppError("not-permitted", `${by} may not approve for ${identity.id}: his role does not allow it`);
  const earlier = yeses.counting.find((yes) => yes.by === by);
  if (earlier !== undefined && peopleOf(yeses.counting).size < 2) {
    const what = earlier.how === "approval" ? "said yes already" : `gave the first yes (${earlier.how})`;
    throw new AppError("conflict", `${by} ${what}; ${identity.id} needs a yes of another operator`);
  }
  return { by, how: "approval", identity: identity.id, admission: null, at: authority.clock.now(), revision };
}

interface FirstYes {
  readonly identity: IdentityRow;
  readonly mine: Yes;
  readonly yeses: Yeses;
  readonly needed: number;
}

async function noteYes(authority: Authority, caller: Caller, request: RequestRow, first: FirstYes): Promise<void> {
  const { identity, mine, yeses, needed } = first;
  const { revision: _revision, ...row } = mine;
  const detail = { identity: identity.id, key: request.key, by: mine.by, how: mine.how, needed };
  await authority.store.approveRequest(request.id, row, yeses.known, [
    auditEntry(caller, mine.at, "enrollment.first-approval", request.id, detail),
  ]);
}

/** What the next operator has to know of a request. */
export interface RequestStanding {
  /** Who the key is to be, as far as anybody has said; null before that. */
  readonly identity: string | null;
  /** How many different operators have to say yes; null while the identity is not known. */
  readonly needed: number | null;
  /** Of a request that waits: those that count now. */
  readonly approvals: readonly Pick<ApprovalRow, "by" | "how" | "at">[];
}

export async function standingOf(authority: Authority, request: RequestRow): Promise<RequestStanding> {
  const known = await authority.store.listApprovals(request.id);
  const id = request.identity ?? (known.find((row) => row.how !== "approval") ?? known.at(-1))?.identity ?? null;
  const identity = id === null ? null : await authority.store.findIdentity(id);
  const needed = identity === null ? null : approvalsNeeded(authority.config, identity.profile);
  const rows: readonly ApprovalRow[] =
    request.state !== "pending"
      ? known
      : identity === null
        ? []
        : (await findYeses(authority, request, identity)).counting;
  const approvals = rows.map(({ by, how, at }) => ({ by, how, at }));
  const { decidedBy, decidedAt, state } = request;
  // The yes that issued was never recorded apart: the decision is its record.
  if (state === "issued" && decidedBy !== null && decidedAt !== null && !approvals.some(({ by }) => by === decidedBy))
    approvals.push({ by: decidedBy, how: "approval", at: decidedAt });
  return { identity: id, needed, approvals };
}
