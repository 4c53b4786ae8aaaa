import { keyAlgorithms, type KeyAlgorithm } from "@newleaf/shared/key-algorithm";
import type { Profile } from "../store/identities.ts";

export type ExtendedKeyUsage = "clientAuth" | "serverAuth";

/** The shape of a leaf. `newleaf.yml` may change validity, backdate, keyReuse, approvals and keys; what a certificate is good for is fixed. */
export interface LeafProfile {
  readonly name: Profile;
  /** Milliseconds of life, counted from issuance. */
  readonly validity: number;
  /** Milliseconds by which notBefore lies before issuance, for clocks that run behind. */
  readonly backdate: number;
  /** A renewal may keep its key. */
  readonly keyReuse: boolean;
  /** How many different operators have to say yes before an identity enrolls. */
  readonly approvals: number;
  readonly keys: readonly KeyAlgorithm[];
  readonly extendedKeyUsage: readonly ExtendedKeyUsage[];
}

const minute = 60_000;
const day = 86_400_000;

function profile(name: Profile, days: number, extendedKeyUsage: readonly ExtendedKeyUsage[]): LeafProfile {
  return Object.freeze({
    name,
    validity: days * day,
    backdate: 5 * minute,
    keyReuse: false,
    approvals: 1,
    keys: keyAlgorithms,
    extendedKeyUsage,
  });
}

export const defaultProfiles: Readonly<Record<Profile, LeafProfile>> = Object.freeze({
  agent: profile("agent", 30, ["clientAuth"]),
  gateway: profile("gateway", 30, ["serverAuth", "clientAuth"]),
  operator: profile("operator", 90, ["clientAuth"]),
  service: profile("service", 30, ["serverAuth"]),
});
