/** A renewal in its turn: hopeless ones are answered at once, the others in the order of their urgency. */
import { unverifiedBody } from "../../ca/csr-body.ts";
import type { PresentedLeaf } from "../../store/certificates.ts";
import { urgencyOf } from "./admission.ts";
import type { Authority, Caller } from "../authority.ts";
import { type Attempt, unlessPaused } from "./pauses.ts";
import { renew, type Renewed } from "../renew.ts";

/**
 * `gone`: the client has left. Operators do not wait in the line: whoever mends an outage must get in.
 * @throws TurnedAway (rate-limited, with `retryAfterSeconds`), and what `renew` throws
 */
export async function renewInTurn(
  authority: Authority,
  caller: Caller,
  presented: PresentedLeaf,
  csr: string,
  gone: AbortSignal,
): Promise<Renewed> {
  const work = (): Promise<Renewed> => renew(authority, caller, presented, csr);
  if (presented.profile === "operator") return work();
  const now = authority.clock.now();
  const issuer = authority.issuers.rows.find((row) => row.id === presented.issuerId);
  const applicant = urgencyOf(presented, issuer?.state === "active", now);
  return unlessPaused(authority, caller, attemptOf(authority, presented, csr, now), () =>
    authority.herd.renewals.inTurn(applicant, gone, work),
  );
}

/** Whatever refused it hangs on the leaf, its lineage, its identity's entry and the profile: when one of them changes, it is looked at again. */
function attemptOf({ config }: Authority, leaf: PresentedLeaf, csr: string, now: number): Attempt {
  const body = unverifiedBody(csr);
  const { keyReuse, keys } = config.profiles[leaf.profile === "service" ? "agent" : leaf.profile];
  return {
    identity: leaf.identity,
    serial: leaf.serial,
    key: null,
    left: leaf.notAfter - now,
    basis: [leaf.state, leaf.lineageState, leaf.identityState, leaf.identityRevision, keyReuse, ...keys].join(" "),
    holder: `renewal ${leaf.serial}`,
    request: body === null ? null : `renewal ${leaf.serial} ${body.hash}`,
  };
}
