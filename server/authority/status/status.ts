/** What an operator should know first: what needs a hand, then how many of what. */
import type { CertificateCounts } from "../../store/certificates.ts";
import { type Attention, readAttention } from "./attention.ts";
import type { Authority } from "../authority.ts";
import type { CrlRecord, IssuerRow } from "../../store/issuers.ts";

export interface Status {
  readonly time: number;
  readonly attention: readonly Attention[];
  readonly certificates: readonly CertificateCounts[];
  readonly bundleVersion: number;
  readonly issuers: readonly { readonly row: IssuerRow; readonly crl: CrlRecord | null }[];
}

export async function readStatus(authority: Authority): Promise<Status> {
  const { store, clock, issuers } = authority;
  return {
    time: clock.now(),
    attention: await readAttention(authority),
    certificates: await store.countCertificates(clock.now()),
    bundleVersion: issuers.bundle.version,
    issuers: issuers.rows.map((row) => ({ row, crl: issuers.crls.get(row.id) ?? null })),
  };
}
