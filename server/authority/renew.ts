/**
 * Renewal: whoever presents the current leaf gets a fresh one. Every renewal is a fresh decision against inventory,
 * profile and policy as they are now; nothing is copied from the presented leaf.
 */
import { allNames } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { readCsr, type ParsedCsr } from "../ca/csr.ts";
import { decideRenewal, wasSuperseded, type RenewalAction } from "../ca/lineage.ts";
import { checkKey, checkNames } from "../ca/policy.ts";
import { leafNames } from "../ca/leaf.ts";
import type { CertificateRow, PresentedLeaf } from "../store/certificates.ts";
import type { IdentityRow } from "../store/identities.ts";
import type { LineageRow } from "../store/lineages.ts";
import { StaleBasis } from "../store/store.ts";
import { perHour, type Rate } from "./allowance.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "./authority.ts";
import { refuseUnfit } from "./gate.ts";
import { issue, type IssueRequest } from "./issue.ts";
import { activeIssuer } from "./issuers.ts";
import { withNextCrls } from "./revocation/publish-crl.ts";
import { lockForConflict } from "./lineage/lineage.ts";
import { sameNames } from "./renewal-window.ts";
import { approvalsNeeded } from "./enrollment/two-persons.ts";

export interface Renewed {
  readonly certificate: CertificateRow;
  /** True when it is a leaf that was released before. */
  readonly again: boolean;
}

/**
 * `presented` has passed the gate, except that a superseded leaf's fitness is judged here, after the conflict.
 * @throws AppError csr-malformed, csr-signature-invalid, key-not-acceptable, key-blocked, key-in-use, key-reused, names-not-permitted,
 *   lineage-locked, identity-unknown, issuer-unavailable, rate-limited, and for a superseded leaf the gate's codes
 */
export async function renew(
  authority: Authority,
  caller: Caller,
  presented: PresentedLeaf,
  csrText: string,
): Promise<Renewed> {
  const csr = readRequest(authority, presented, csrText);
  let serial = presented.serial;
  return onFreshBasis(async () => {
    const leaf = await authority.store.findPresented(serial);
    if (leaf === null) throw new AppError("certificate-unknown");
    serial = leaf.serial;
    return decideAndIssue(authority, caller, leaf, csr);
  });
}

/** A superseded leaf with a request nobody can read proves no second key: the gate's refusal comes first, then the request's. */
function readRequest(authority: Authority, presented: PresentedLeaf, csrText: string): ParsedCsr {
  try {
    return readCsr(csrText);
  } catch (error) {
    refuseUnfit(presented, authority.clock.now(), authority.config.lineage.overlap);
    throw error;
  }
}

async function decideAndIssue(
  authority: Authority,
  caller: Caller,
  leaf: PresentedLeaf,
  csr: ParsedCsr,
): Promise<Renewed> {
  const now = authority.clock.now();
  if (leaf.lineage === null)
    throw new AppError("not-permitted", "A certificate of the service itself does not renew here");
  // Before the successor: the commit checks this generation, so a leaf issued after this line makes the decision stale.
  const lineage = await authority.store.findLineage(leaf.lineage);
  if (lineage === null) throw new AppError("internal", "The presented leaf names a lineage that does not exist");
  const successor = await authority.store.findSuccessor(leaf.serial);
  const fit = leaf.state === "replaced" || wasSuperseded(leaf);
  if (!fit) refuseUnfit(leaf, now, authority.config.lineage.overlap);

  const action = decideRenewal({ presented: leaf, successor, key: csr.key });
  switch (action.kind) {
    case "lock":
      await lockForConflict(authority, caller, leaf, { reason: action.reason, key: csr.key });
      throw new AppError(
        "lineage-locked",
        `${action.reason}; an operator has to release or revoke lineage ${leaf.lineage}`,
      );
    case "locked":
      throw new AppError(
        "lineage-locked",
        `Lineage ${leaf.lineage} waits for an operator: two holders of one certificate were seen`,
      );
    case "return-successor":
      // Judged: no conflict. What else is wrong with the leaf still counts, except that its overlap may have ended.
      refuseUnfit({ ...leaf, supersededAt: null }, now, authority.config.lineage.overlap);
      return { certificate: action.successor, again: true };
    case "issue":
    case "repeat":
    case "replace":
      return issueSuccessor(authority, caller, { leaf, lineage, csr, action });
    default:
      return action satisfies never;
  }
}

type Issuing = Extract<RenewalAction, { kind: "issue" | "repeat" | "replace" }>;

interface Successor {
  readonly leaf: PresentedLeaf;
  /** As it was before the action was decided. */
  readonly lineage: LineageRow;
  readonly csr: ParsedCsr;
  readonly action: Issuing;
}

async function issueSuccessor(
  authority: Authority,
  caller: Caller,
  { leaf, lineage, csr, action }: Successor,
): Promise<Renewed> {
  const now = authority.clock.now();
  const { store, config } = authority;
  const identity = await store.findIdentity(leaf.identity);
  if (identity === null || identity.profile === "service") throw new AppError("identity-unknown");
  // This is the revision that the commit checks: what it says counts, not what was read with the leaf before.
  refuseUnfit({ ...leaf, identityState: identity.state }, now, config.lineage.overlap);
  const profile = config.profiles[identity.profile];

  refuseProfileChange(authority, leaf, identity);
  checkKey(csr, profile);
  await refuseBadKey(authority, leaf, csr, {
    keyReuse: profile.keyReuse,
    successor: action.kind === "repeat" ? action.successor : null,
  });
  const asksForNames = csr.commonName !== null || allNames(csr.names).length > 0;
  const { dropped } = checkNames({ csr, identity, ...(asksForNames ? { presented: leafNames(leaf.der) } : {}) });

  if (action.kind === "repeat" && isStillWhatWouldBeIssued(authority, action.successor, identity, now)) {
    return { certificate: action.successor, again: true };
  }

  refuseFlood(authority, lineage.id, profile.validity);
  const replaced = action.kind === "issue" ? null : action.successor;
  const request = {
    identity: identity.id,
    names: identity.names,
    profile,
    csr,
    kind: "renewal" as const,
    lineage: { id: lineage.id, isNew: false, generation: lineage.newestGeneration + 1 },
    parent: leaf.serial,
    basis: {
      identity: { id: identity.id, revision: identity.revision },
      presented: { serial: leaf.serial, state: leaf.state },
      lineage: { id: lineage.id, newestGeneration: lineage.newestGeneration },
    },
    audit:
      dropped.length === 0
        ? []
        : [auditEntry(caller, now, "names.dropped", identity.id, { names: dropped, serial: leaf.serial })],
  };
  const issueOnce = async (changes: Pick<IssueRequest, "replaces">): Promise<CertificateRow> => {
    const certificate = await issue(authority, caller, { ...request, ...changes });
    authority.issuances.take(lineage.id, issuancesOf(profile.validity));
    return certificate;
  };
  if (replaced === null) return { certificate: await issueOnce({}), again: false };

  const record = {
    issuerId: replaced.issuerId,
    serial: replaced.serial,
    reason: "superseded" as const,
    revokedAt: now,
    notAfter: replaced.notAfter,
  };
  const certificate = await withNextCrls(authority, { add: [record] }, (crls) =>
    issueOnce({ replaces: { record, crls } }),
  );
  authority.events.revoked(record);
  return { certificate, again: false };
}

/** One operator could otherwise enroll an identity with a profile that needs one yes, and renew it with one that needs two. */
function refuseProfileChange({ config }: Authority, leaf: PresentedLeaf, identity: IdentityRow): void {
  if (leaf.profile === identity.profile) return;
  const needed = approvalsNeeded(config, identity.profile);
  if (needed <= approvalsNeeded(config, leaf.profile)) return;
  throw new AppError(
    "enrollment-denied",
    `${identity.id} is of profile ${identity.profile} now, which needs ${needed} operators; a ${leaf.profile} certificate does not renew into it: enroll anew`,
  );
}

const hour = 3_600_000;
/** In each hour; and ten times as many as a lineage has use for, where leaves live for seconds. */
const maxIssuances = 60;
const maxIssuancesPerLife = 10;

function issuancesOf(validity: number): Rate {
  return perHour(maxIssuances + Math.floor((maxIssuancesPerLife * hour) / validity));
}

/** One leaf must not fill store and CRL, nor wake the fleet with a new CRL for each of its replacements. */
function refuseFlood({ issuances }: Authority, lineage: string, validity: number): void {
  const rate = issuancesOf(validity);
  if (issuances.isLeft(lineage, rate)) return;
  throw new AppError("rate-limited", `Lineage ${lineage} was given too many certificates within the hour; wait`, {
    retryAfterSeconds: Math.ceil(issuances.readyIn(lineage, rate) / 1000),
  });
}

async function refuseBadKey(
  authority: Authority,
  leaf: PresentedLeaf,
  csr: ParsedCsr,
  allowed: { keyReuse: boolean; successor: CertificateRow | null },
): Promise<void> {
  const known = await authority.store.findKey(csr.key);
  if (known === null) return;
  if (known.blockedAt !== null)
    throw new AppError("key-blocked", "This key was revoked as compromised; make a new one");
  if (known.identity !== leaf.identity)
    throw new AppError("key-in-use", "This key belongs to another identity; make a new one");
  if (allowed.successor?.key === csr.key || !known.issued) return;
  if (allowed.keyReuse && csr.key === leaf.key) return;
  // The same request a moment earlier: its answer is this one's too.
  if ((await authority.store.findSuccessor(leaf.serial))?.key === csr.key)
    throw new StaleBasis(`A leaf for ${csr.key} was issued after the successor was looked up.`);
  throw new AppError("key-reused", "A certificate was already issued for this key; make a new one for each renewal");
}

/** The pending leaf is given again only while a new one would come out the same in all but serial and dates. */
function isStillWhatWouldBeIssued(
  authority: Authority,
  pending: CertificateRow,
  identity: IdentityRow,
  now: number,
): boolean {
  return (
    pending.issuerId === activeIssuer(authority.issuers).id &&
    pending.profile === identity.profile &&
    now < pending.renewalStart &&
    sameNames(leafNames(pending.der), identity.names)
  );
}
