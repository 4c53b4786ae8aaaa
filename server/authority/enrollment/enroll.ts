/**
 * Enrollment: the first leaf of a lineage, for whoever brings a token, holds an approved key, has a recovery grant, or waits for
 * an operator. The host never chooses its identity: it follows from the token, the key or the approval.
 */
import { readToken } from "@newleaf/shared/token";
import { allNames } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { readCsr, type ParsedCsr } from "../../ca/csr.ts";
import type { LeafProfile } from "../../ca/profile.ts";
import { checkKey, checkNames } from "../../ca/policy.ts";
import type { CertificateRow, IssuanceKind } from "../../store/certificates.ts";
import type { RequestRow, TokenRow } from "../../store/enrollments.ts";
import type { IdentityRow, KeyRow } from "../../store/identities.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { issue, type IssueRequest } from "../issue.ts";
import {
  type Admission,
  approvalsNeeded,
  approversOf,
  findYeses,
  grantAdmission,
  keyAdmission,
  lastLeaf,
  peopleOf,
  type Spending,
  tokenAdmission,
  type Yeses,
} from "./two-persons.ts";

export interface EnrollmentAsk {
  readonly csr: string;
  readonly token?: string;
  /** A hint shown to the operator who decides. */
  readonly claim?: string;
}

export type EnrollmentOutcome =
  | { readonly kind: "certificate"; readonly certificate: CertificateRow }
  | { readonly kind: "pending"; readonly request: RequestRow };

/** Requests that may wait at once, in all and from one address; and for how long. */
const maxOpenRequests = 1_000;
const maxOpenRequestsPerAddress = 50;
/** Of those with a token, an approved key or a grant: strangers cannot fill their places. */
const maxOpenAdmitted = 2_000;
const maxOpenAdmittedPerAddress = 1_000;
/** Keys that may wait with the same token or grant: whoever has lost his key may ask again, but not without end. */
const maxKeysPerAdmission = 5;
const requestLife = 24 * 3_600_000;

/**
 * @throws AppError csr-malformed, csr-signature-invalid, key-not-acceptable, key-blocked, key-in-use, token-invalid, names-not-permitted,
 *   identity-unknown, identity-suspended, lineage-locked, enrollment-denied, rate-limited, issuer-unavailable
 */
export async function enroll(authority: Authority, caller: Caller, ask: EnrollmentAsk): Promise<EnrollmentOutcome> {
  const csr = readCsr(ask.csr);
  caller.target = csr.key;
  return onFreshBasis(async () => {
    const known = await authority.store.findKey(csr.key);
    if (known?.blockedAt != null)
      throw new AppError("key-blocked", "This key was revoked as compromised; make a new one");
    if (ask.token !== undefined) return withToken(authority, caller, csr, known, { ...ask, token: ask.token });
    if (known !== null) return withKnownKey(authority, caller, csr, known, ask.claim);
    return waitForApproval(authority, caller, csr, ask.claim);
  });
}

async function withToken(
  authority: Authority,
  caller: Caller,
  csr: ParsedCsr,
  known: KeyRow | null,
  ask: EnrollmentAsk & { readonly token: string },
): Promise<EnrollmentOutcome> {
  const { secretHash } = readToken(ask.token);
  const token = await authority.store.findToken(secretHash);
  if (token === null) throw new AppError("token-invalid");
  caller.target = token.identity;
  if (known !== null && known.identity !== token.identity) {
    throw new AppError("key-in-use", "This key belongs to another identity; make a new one");
  }
  if (token.spentAt !== null) return { kind: "certificate", certificate: await repeated(authority, token, csr) };
  if (token.revokedAt !== null) throw new AppError("token-invalid", "This token was revoked; ask for a new one");
  if (token.expiresAt <= authority.clock.now())
    throw new AppError("token-invalid", "This token has expired; ask for a new one");
  const identity = await admissible(authority, token.identity);
  return admitted(authority, caller, { csr, identity, admission: tokenAdmission(token), claim: ask.claim });
}

/** The answer to a spent token's request was lost: the same leaf to the same key, until it is first used or due for renewal. */
async function repeated(authority: Authority, token: TokenRow, csr: ParsedCsr): Promise<CertificateRow> {
  const leaf = token.spentOn === null ? null : await authority.store.findCertificate(token.spentOn);
  if (leaf !== null && leaf.key === csr.key && isRepeatable(authority, leaf)) {
    await admissible(authority, leaf.identity);
    return leaf;
  }
  throw new AppError("token-invalid", "This token was already used; ask for a new one");
}

function isRepeatable(authority: Authority, leaf: CertificateRow): boolean {
  return leaf.state === "pending" && authority.clock.now() < leaf.renewalStart;
}

async function withKnownKey(
  authority: Authority,
  caller: Caller,
  csr: ParsedCsr,
  known: KeyRow,
  claim: string | undefined,
): Promise<EnrollmentOutcome> {
  const { store, clock } = authority;
  caller.target = known.identity;
  const identity = await admissible(authority, known.identity);
  const pending = await store.findPendingByKey(known.identity, csr.key);
  if (pending !== null && pending.kind !== "renewal" && isRepeatable(authority, pending)) {
    return { kind: "certificate", certificate: pending };
  }
  const grant = await store.findOpenGrant(known.identity, clock.now());
  const last = await lastLeaf(authority, identity);
  if (grant !== null && (known.approved || last?.key === csr.key)) {
    if (last?.state === "revoked" || last?.state === "held")
      throw new AppError(
        "enrollment-denied",
        "Its last certificate was revoked: recovery is not possible, enroll with a token",
      );
    const presented = last === null ? null : { serial: last.serial, state: last.state };
    return admitted(authority, caller, { csr, identity, admission: grantAdmission(grant, presented), claim });
  }
  const usable = await store.listUsable(known.identity, clock.now());
  if (known.approved && usable.length > 0) {
    throw new AppError(
      "enrollment-denied",
      `${known.identity} holds a usable certificate: renew with it, or ask for a token to start anew`,
    );
  }
  if (!known.armed) return waitForApproval(authority, caller, csr, claim);
  return admitted(authority, caller, { csr, identity, admission: keyAdmission(known), claim });
}

interface Admitted {
  readonly csr: ParsedCsr;
  readonly identity: IdentityRow;
  readonly admission: Admission;
  readonly claim: string | undefined;
}

/** One operator vouches for the key already. Where one is enough that issues; where two are needed it is the first yes. */
async function admitted(authority: Authority, caller: Caller, admitted: Admitted): Promise<EnrollmentOutcome> {
  const { csr, identity, admission, claim } = admitted;
  const { kind, spends, facts } = admission;
  const needed = approvalsNeeded(authority.config, identity.profile);
  if (needed < 2) {
    const certificate = await beginLineage(authority, caller, { csr, identity, kind, spends, facts });
    return { kind: "certificate", certificate };
  }
  // What could not be issued anyway need not wait for anybody.
  checkRequest(authority, csr, identity);
  const limits = { maxOpen: maxOpenAdmitted, maxOpenPerAddress: maxOpenAdmittedPerAddress };
  await refuseManyKeys(authority, csr, admission);
  const request = await openRequest(authority, caller, csr, claim, limits);
  if (request.state !== "pending" || admission.by === null) return requestOutcome(authority, request);

  const { known, counting } = await withFirstYes(authority, caller, { request, identity, admission, by: admission.by });
  if (peopleOf(counting).size < needed) return { kind: "pending", request };
  // An operator said yes to the key before what it came with was presented: then that was the first one.
  const basis = { requestId: request.id, approvals: known, approvers: approversOf(counting) };
  const approvals = counting.map(({ by, how }) => ({ by, how }));
  const certificate = await beginLineage(authority, caller, {
    csr,
    identity,
    kind,
    spends: { ...spends, ...basis },
    facts: { ...facts, request: request.id, approvals },
    decidedBy: admission.by,
  });
  return { kind: "certificate", certificate };
}

interface FirstYes {
  readonly request: RequestRow;
  readonly identity: IdentityRow;
  readonly admission: Admission;
  readonly by: string;
}

/** Notes, once, that the request came with this admission, and says what counts then. */
async function withFirstYes(authority: Authority, caller: Caller, first: FirstYes): Promise<Yeses> {
  const { request, identity, admission, by } = first;
  const { how, id } = admission;
  const yeses = await findYeses(authority, request, identity);
  if (yeses.known.some((row) => row.how === how && row.admission === id && row.by === by)) return yeses;
  const at = authority.clock.now();
  const detail = { identity: identity.id, key: request.key, by, how };
  const yes = { by, how, identity: identity.id, admission: id, at };
  await authority.store.approveRequest(request.id, yes, yeses.known, [
    auditEntry(caller, at, "enrollment.first-approval", request.id, detail),
  ]);
  return findYeses(authority, request, identity);
}

async function refuseManyKeys({ store, clock }: Authority, csr: ParsedCsr, admission: Admission): Promise<void> {
  const now = clock.now();
  const earlier = await store.findRequestByKey(csr.key, now);
  const yeses = earlier === null ? [] : await store.listApprovals(earlier.id);
  if (yeses.some((yes) => yes.admission === admission.id)) return;
  if ((await store.countRequestsWith(admission.id, now)) < maxKeysPerAdmission) return;
  throw new AppError(
    "rate-limited",
    "Several keys wait with the same token or grant already; an operator has to decide",
  );
}

/** Nobody vouches for the key yet: the request waits, one per key, bounded in number. What was denied stays denied for its day. */
async function waitForApproval(
  authority: Authority,
  caller: Caller,
  csr: ParsedCsr,
  claim: string | undefined,
): Promise<EnrollmentOutcome> {
  const earlier = await authority.store.findRequestByKey(csr.key, authority.clock.now());
  if (earlier !== null) return requestOutcome(authority, earlier);
  const limits = { maxOpen: maxOpenRequests, maxOpenPerAddress: maxOpenRequestsPerAddress };
  return requestOutcome(authority, await openRequest(authority, caller, csr, claim, limits));
}

/** The request of this key that is pending or was denied, else a new one. */
async function openRequest(
  authority: Authority,
  caller: Caller,
  csr: ParsedCsr,
  claim: string | undefined,
  limits: { readonly maxOpen: number; readonly maxOpenPerAddress: number },
): Promise<RequestRow> {
  const now = authority.clock.now();
  const request: RequestRow = {
    id: authority.random(16).toString("hex"),
    state: "pending",
    key: csr.key,
    csr: csr.der,
    claim: claim ?? null,
    askedNames: [...(csr.commonName === null ? [] : [csr.commonName]), ...allNames(csr.names)],
    address: caller.address,
    createdAt: now,
    expiresAt: now + requestLife,
    identity: null,
    serial: null,
    decidedBy: null,
    decidedAt: null,
  };
  const audit = [
    auditEntry(caller, now, "enrollment.requested", request.id, {
      key: csr.key,
      claim: claim ?? null,
      names: request.askedNames,
    }),
  ];
  return authority.store.openRequest(request, limits, audit);
}

/**
 * What became of a request: its leaf, or that it still waits.
 * @throws AppError not-found (unknown, or older than a day), enrollment-denied
 */
export async function pollEnrollment(authority: Authority, id: string): Promise<EnrollmentOutcome> {
  const request = await authority.store.findRequest(id, authority.clock.now());
  if (request === null)
    throw new AppError("not-found", "There is no such enrollment request; it may have expired. Ask again");
  return requestOutcome(authority, request);
}

async function requestOutcome(authority: Authority, request: RequestRow): Promise<EnrollmentOutcome> {
  if (request.state === "denied") throw new AppError("enrollment-denied", "An operator denied this request");
  if (request.state === "pending") return { kind: "pending", request };
  const certificate = request.serial === null ? null : await authority.store.findCertificate(request.serial);
  if (certificate === null || !isRepeatable(authority, certificate)) {
    throw new AppError(
      "enrollment-denied",
      "This request was granted and its certificate has been in use since; ask for a token to enroll again",
    );
  }
  await admissible(authority, certificate.identity);
  return { kind: "certificate", certificate };
}

/**
 * The identity, if it may enroll at all.
 * @throws AppError identity-unknown, identity-suspended, lineage-locked
 */
export async function admissible(authority: Authority, id: string): Promise<IdentityRow> {
  const identity = await authority.store.findIdentity(id);
  if (identity === null || identity.state === "removed" || identity.profile === "service") {
    throw new AppError("identity-unknown", `${id} is not in the inventory`);
  }
  if (identity.state === "suspended") throw new AppError("identity-suspended", `${id} is suspended by an operator`);
  const locked = await authority.store.findLockedLineage(id);
  if (locked !== null) throw new AppError("lineage-locked", `Lineage ${locked.id} of ${id} waits for an operator`);
  return identity;
}

interface Beginning {
  readonly csr: ParsedCsr;
  readonly identity: IdentityRow;
  readonly kind: IssuanceKind;
  readonly spends: Spending;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly decidedBy?: string;
}

/** @throws AppError identity-unknown, key-not-acceptable, names-not-permitted */
export function checkRequest(authority: Authority, csr: ParsedCsr, identity: IdentityRow): LeafProfile {
  if (identity.profile === "service") throw new AppError("identity-unknown");
  const profile = authority.config.profiles[identity.profile];
  checkKey(csr, profile);
  checkNames({ csr, identity });
  return profile;
}

/** Issues the first leaf of a new lineage; the old lineage is superseded when this leaf is first used. */
export async function beginLineage(
  authority: Authority,
  caller: Caller,
  beginning: Beginning,
): Promise<CertificateRow> {
  const { csr, identity } = beginning;
  const profile = checkRequest(authority, csr, identity);
  const request: IssueRequest = {
    identity: identity.id,
    names: identity.names,
    profile,
    csr,
    kind: beginning.kind,
    lineage: { id: authority.random(8).toString("hex"), isNew: true, generation: 1 },
    parent: null,
    basis: { identity: { id: identity.id, revision: identity.revision }, noLockedLineage: true, ...beginning.spends },
    facts: beginning.facts,
    ...(beginning.decidedBy === undefined ? {} : { decidedBy: beginning.decidedBy }),
  };
  return issue(authority, caller, request);
}
