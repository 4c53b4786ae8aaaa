/** What keeps the service standing when everybody comes at once: the two lines, the request buckets, and who is paused. */
import type { Clock } from "@newleaf/shared/clock";
import type { Store } from "../../store/store.ts";
import { createAdmission, type Admission, enrollmentLimits, renewalLimits, TurnedAway } from "./admission.ts";
import { createAllowance, type Allowance, type Rate } from "../allowance.ts";
import type { Caller } from "../authority.ts";
import { createCrowd, type Crowd } from "./crowd.ts";
import { openPauseDesk, type PauseDesk } from "./pause-desk.ts";
import { networkOf } from "@newleaf/shared/network";

export interface Herd {
  /** At the door of the agents listener. */
  readonly crowd: Crowd;
  /** By time to expiry. */
  readonly renewals: Admission;
  /** First come, first served. */
  readonly enrollments: Admission;
  /** Requests, by leaf and by network. */
  readonly requests: Allowance;
  readonly pauses: PauseDesk;
}

export async function openHerd(store: Store, clock: Clock): Promise<Herd> {
  const crowd = createCrowd();
  const renewals = createAdmission(renewalLimits, crowd.isHere);
  crowd.whenOver(renewals.proceed);
  return {
    crowd,
    renewals,
    enrollments: createAdmission(enrollmentLimits),
    requests: createAllowance(clock),
    pauses: await openPauseDesk(store, clock),
  };
}

/** A leaf of seconds, as in the demo, asks once a second at most; one of a month a few times a day. */
const requestsOfLeaf: Rate = { burst: 240, perHour: 18_000 };
/** A site's whole fleet behind one address may enroll in one evening. */
const enrollmentsOfNetwork: Rate = { burst: 1_000, perHour: 18_000 };
/** Refusals of callers without a leaf of ours; whoever holds one is never held up by his neighbours. */
const refusalsOfNetwork: Rate = { burst: 1_000, perHour: 3_600 };

/** One more request with this leaf. @throws TurnedAway (rate-limited) */
export function takeRequest({ requests }: Herd, serial: string): void {
  const who = `leaf ${serial}`;
  if (requests.take(who, requestsOfLeaf)) return;
  throw tooMany("too-many-requests", "Too many requests with this certificate", requests.readyIn(who, requestsOfLeaf));
}

/** One more enrollment from this network. @throws TurnedAway (rate-limited) */
export function takeEnrollment({ requests }: Herd, caller: Pick<Caller, "address">): void {
  const who = `enrollments ${networkOf(caller.address)}`;
  if (requests.take(who, enrollmentsOfNetwork)) return;
  throw tooMany(
    "too-many-requests",
    "Too many enrollments from this address",
    requests.readyIn(who, enrollmentsOfNetwork),
  );
}

/** Before a stranger's request is looked at. @throws TurnedAway (rate-limited) */
export function refuseNoisyNetwork({ requests }: Herd, caller: Pick<Caller, "address">): void {
  const who = `refusals ${networkOf(caller.address)}`;
  if (requests.isLeft(who, refusalsOfNetwork)) return;
  throw tooMany(
    "too-many-refusals",
    "Too many requests from this address were refused",
    requests.readyIn(who, refusalsOfNetwork),
  );
}

/** A stranger's request was refused. */
export function countRefusal({ requests }: Herd, caller: Pick<Caller, "address">): void {
  requests.take(`refusals ${networkOf(caller.address)}`, refusalsOfNetwork);
}

function tooMany(reason: "too-many-requests" | "too-many-refusals", what: string, readyInMs: number): TurnedAway {
  return new TurnedAway(reason, `${what}; wait as long as Retry-After says`, Math.max(1, Math.ceil(readyInMs / 1000)));
}
