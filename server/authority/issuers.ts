import { AppError } from "@newleaf/shared/problems";
import type { Issuer } from "../ca/issuer.ts";
import type { BundleRow, CrlRecord, IssuerRow } from "../store/issuers.ts";

/** The CA certificates in force, the signers at hand and the newest CRL of each. One process, one writer: memory mirrors the store. */
export interface IssuerRegistry {
  /** Replaced after a change of theirs is durable. */
  rows: readonly IssuerRow[];
  readonly bundle: BundleRow;
  /** Issuer id → newest CRL; replaced after each publication is durable. */
  readonly crls: Map<string, CrlRecord>;
  readonly signers: ReadonlyMap<string, Issuer>;
}

/**
 * The issuer new leaves come from.
 * @throws AppError `issuer-unavailable` when none is active or its key is not at hand
 */
export function activeIssuer(registry: IssuerRegistry): Issuer {
  const row = registry.rows.find((candidate) => candidate.kind === "intermediate" && candidate.state === "active");
  const signer = row === undefined ? undefined : registry.signers.get(row.id);
  if (signer === undefined) {
    throw new AppError("issuer-unavailable", "No active issuer has its key at hand; see `newleaf ca list`", {
      retryAfterSeconds: 60,
    });
  }
  return signer;
}

/** Issuers whose leaves may still authenticate. */
export function acceptedIssuers(registry: IssuerRegistry): readonly IssuerRow[] {
  return registry.rows.filter(
    (row) => row.kind === "intermediate" && (row.state === "active" || row.state === "draining"),
  );
}

/** DER of the intermediates from a leaf's issuer up to, and without, the root. */
export function chainOf(registry: IssuerRegistry, issuerId: string): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let row = registry.rows.find((candidate) => candidate.id === issuerId);
  while (row !== undefined && row.kind === "intermediate") {
    chain.push(row.certificate);
    const parent: string = row.parent;
    row = registry.rows.find((candidate) => candidate.id === parent);
  }
  return chain;
}
