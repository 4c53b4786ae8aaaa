/** An enrollment in its turn: hopeless ones are answered at once, the others first come, first served. */
import { createHash } from "node:crypto";
import { unverifiedBody, type UnverifiedBody } from "../../ca/csr-body.ts";
import { enrollmentTurn } from "./admission.ts";
import type { Authority, Caller } from "../authority.ts";
import { enroll, type EnrollmentAsk, type EnrollmentOutcome } from "../enrollment/enroll.ts";
import { type Attempt, unlessPaused } from "./pauses.ts";

/**
 * `gone`: the client has left.
 * @throws TurnedAway (rate-limited, with `retryAfterSeconds`), and what `enroll` throws
 */
export async function enrollInTurn(
  authority: Authority,
  caller: Caller,
  ask: EnrollmentAsk,
  gone: AbortSignal,
): Promise<EnrollmentOutcome> {
  const body = unverifiedBody(ask.csr);
  const turn = enrollmentTurn(body?.hash ?? caller.requestId);
  const work = (): Promise<EnrollmentOutcome> =>
    authority.herd.enrollments.inTurn(turn, gone, () => enroll(authority, caller, ask));
  const attempt = body === null ? null : await attemptOf(authority, body, ask.token);
  // A stranger makes as many keys as he likes: pausing them would only fill the table. His address is limited instead.
  return attempt === null ? work() : unlessPaused(authority, caller, attempt, work);
}

/** Null for a key that belongs to nobody. */
async function attemptOf(
  { store, clock }: Authority,
  body: UnverifiedBody,
  token: string | undefined,
): Promise<Attempt | null> {
  const known = await store.findKey(body.key);
  if (known === null) return null;
  const now = clock.now();
  const identity = await store.findIdentity(known.identity);
  const locked = await store.findLockedLineage(known.identity);
  const grant = await store.findOpenGrant(known.identity, now);
  const last = await store.findLast(known.identity);
  const usable = await store.listUsable(known.identity, now);
  const waiting = await store.findRequestByKey(body.key, now);
  const entry = [known.identity, known.approved, known.armed, known.blockedAt, identity?.state, identity?.revision];
  const standing = [locked?.id, grant?.id, last?.serial, last?.state, (last?.notAfter ?? 0) > now, usable.length > 0];
  const basis = [...entry, ...standing, waiting?.id, waiting?.state];
  const asked = createHash("sha256").update(`${body.hash} ${token ?? ""}`);
  return {
    identity: known.identity,
    serial: null,
    key: body.key,
    left: null,
    basis: basis.join(" "),
    holder: null,
    request: `enrollment ${asked.digest("hex")}`,
  };
}
