/** The service's own server certificate: from its own issuer, recorded like any other, its key only in memory, replaced before it expires. */
import { isIP } from "node:net";
import type { KeyObject } from "node:crypto";
import { keyFingerprint, spkiOf } from "@newleaf/shared/fingerprint";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { normaliseNames } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { createPublicKey } from "node:crypto";
import type { CertificateRow } from "../store/certificates.ts";
import { serviceIdentity } from "./found.ts";
import { onFreshBasis, systemCaller, type Authority } from "./authority.ts";
import { issue } from "./issue.ts";
import { chainOf } from "./issuers.ts";

export interface ServiceCertificate {
  readonly row: CertificateRow;
  readonly key: KeyObject;
  /** DER of the intermediates. */
  readonly chain: readonly Uint8Array[];
}

/** A fresh certificate for the service's listeners, naming the configured hosts, localhost, 127.0.0.1 and ::1. */
export async function issueServiceCertificate(authority: Authority): Promise<ServiceCertificate> {
  const key = await generateKey("ecdsa-p256");
  const publicKey = createPublicKey(key);
  const { hosts, profiles } = authority.config;
  const names = normaliseNames({
    dns: [...hosts.filter((host) => isIP(host) === 0), "localhost"],
    ip: [...hosts.filter((host) => isIP(host) !== 0), "127.0.0.1", "::1"],
    uri: [],
    email: [],
  });
  const row = await onFreshBasis(async () => {
    const identity = await authority.store.findIdentity(serviceIdentity);
    if (identity === null) throw new AppError("internal", "The store lacks the service's own identity");
    return issue(authority, systemCaller("service-certificate"), {
      identity: identity.id,
      names,
      profile: profiles.service,
      csr: { publicKey, spki: spkiOf(key), key: keyFingerprint(key) },
      kind: "enrollment",
      lineage: null,
      parent: null,
      basis: { identity: { id: identity.id, revision: identity.revision } },
    });
  });
  return { row, key, chain: chainOf(authority.issuers, row.issuerId) };
}

/** True from its renewal window on, or when its issuer no longer issues. */
export function isServiceCertificateDue(authority: Authority, current: ServiceCertificate): boolean {
  const issuer = authority.issuers.rows.find((row) => row.id === current.row.issuerId);
  const now = authority.clock.now();
  const isOrphaned = issuer?.state !== "active" && canIssue(authority);
  return now >= current.row.renewalStart || now < current.row.notBefore || isOrphaned;
}

/** False after the last issuing CA was revoked: then no listener can speak TLS, and only what is public is still served. */
export function canIssue({ issuers }: Authority): boolean {
  const issuing = issuers.rows.filter((row) => row.kind === "intermediate");
  return issuing.some((row) => row.state === "active") || issuing.every((row) => row.revokedAt == null);
}
