/**
 * The issuing sequence: decide, sign, record, release. Nothing leaves before it is durable, and what is recorded is what
 * was signed. The use cases (enroll, renew, the service's own certificate) decide; this file does the rest, in this order:
 *
 * 1. prepare: every field from inventory, profile and policy; linted. Only a prepared leaf can be signed.
 * 2. sign, read the DER back and compare.
 * 3. one transaction: check the basis again, insert the certificate, its lineage, what it spends, its audit row. fsync.
 * 4. only now return it. Metrics and logs after the commit.
 */
import { fingerprint } from "@newleaf/shared/fingerprint";
import type { CertificateAnswer } from "@newleaf/shared/api";
import type { Names } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import type { ParsedCsr } from "../ca/csr.ts";
import { prepareLeaf, signLeaf } from "../ca/leaf.ts";
import type { LeafProfile } from "../ca/profile.ts";
import { renewalWindow } from "../ca/renewal-window.ts";
import { newSerial } from "../ca/serial.ts";
import type { AuditEntry } from "../store/audit.ts";
import type { CertificateRow, IssuanceBasis, IssuanceKind, NewCertificate } from "../store/certificates.ts";
import type { CrlRecord } from "../store/issuers.ts";
import type { RevocationRecord } from "../store/revocations.ts";
import { auditEntry, type Authority, type Caller } from "./authority.ts";
import { activeIssuer, chainOf } from "./issuers.ts";

export interface IssueRequest {
  readonly identity: string;
  readonly names: Names;
  readonly profile: LeafProfile;
  readonly csr: Pick<ParsedCsr, "publicKey" | "spki" | "key">;
  readonly kind: IssuanceKind;
  /** Null for the service's own certificates. */
  readonly lineage: { readonly id: string; readonly isNew: boolean; readonly generation: number } | null;
  readonly parent: string | null;
  readonly basis: Omit<IssuanceBasis, "issuerId">;
  /** The pending leaf that this one replaces, with the CRLs that list it. */
  readonly replaces?: { readonly record: RevocationRecord; readonly crls: readonly CrlRecord[] };
  readonly decidedBy?: string;
  /** Entries beside the one about the issuance itself. */
  readonly audit?: readonly AuditEntry[];
  /** More facts for that one. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/**
 * Issues one leaf and returns its row, durable.
 * @throws AppError `issuer-unavailable`, `key-in-use`; StaleBasis when what was relied on moved (nothing was written)
 */
export async function issue(authority: Authority, caller: Caller, request: IssueRequest): Promise<CertificateRow> {
  const now = authority.clock.now();
  const issuer = activeIssuer(authority.issuers);

  // 1. Prepare.
  const prepared = prepareLeaf({
    profile: request.profile,
    identity: request.identity,
    names: request.names,
    publicKey: request.csr.publicKey,
    spki: request.csr.spki,
    serial: newSerial(authority.random(16)),
    now,
    issuer,
    publicUrl: authority.config.publicUrl,
  });

  // 2. Sign and read back.
  const der = signLeaf(prepared, issuer);

  // 3. Record: one transaction.
  const period = renewalWindow({ issuedAt: now, notAfter: prepared.notAfter, ...authority.config.renewal });
  const certificate: NewCertificate = {
    serial: prepared.serial,
    issuerId: issuer.id,
    identity: request.identity,
    profile: request.profile.name,
    kind: request.kind,
    lineage: request.lineage?.id ?? null,
    generation: request.lineage?.generation ?? 0,
    parent: request.parent,
    state: request.lineage === null ? "current" : "pending",
    key: request.csr.key,
    fingerprint: fingerprint(der),
    der,
    notBefore: prepared.notBefore,
    notAfter: prepared.notAfter,
    issuedAt: now,
    renewalStart: period.start,
    renewalEnd: period.end,
  };
  await authority.store.recordIssuance({
    certificate,
    basis: { ...request.basis, issuerId: issuer.id },
    ...(request.lineage?.isNew === true ? { newLineage: request.lineage.id } : {}),
    ...(request.replaces === undefined ? {} : { replaces: request.replaces.record, crls: request.replaces.crls }),
    ...(request.decidedBy === undefined ? {} : { decidedBy: request.decidedBy }),
    audit: [issuedEntry(caller, certificate, request), ...(request.audit ?? [])],
  });

  // 4. Released: the row is durable.
  authority.events.issued(certificate);
  return { ...certificate, firstUsedAt: null, supersededAt: null, revokedAt: null, reason: null };
}

/** What the holder is told about a leaf. */
export function certificateAnswer(
  authority: Authority,
  row: CertificateRow,
  renewal: { start: number; end: number },
): CertificateAnswer {
  return {
    identity: row.identity,
    serial: row.serial,
    notBefore: isoTime(row.notBefore),
    notAfter: isoTime(row.notAfter),
    lineage: row.lineage ?? "",
    generation: row.generation,
    certificate: pemEncode("CERTIFICATE", row.der),
    chain: chainOf(authority.issuers, row.issuerId)
      .map((der) => pemEncode("CERTIFICATE", der))
      .join(""),
    bundleVersion: authority.issuers.bundle.version,
    renewal: { start: isoTime(renewal.start), end: isoTime(renewal.end) },
  };
}

export function isoTime(at: number): string {
  return new Date(at).toISOString();
}

function issuedEntry(caller: Caller, certificate: NewCertificate, request: IssueRequest): AuditEntry {
  return auditEntry(caller, certificate.issuedAt, "certificate.issued", certificate.serial, {
    identity: certificate.identity,
    profile: certificate.profile,
    kind: certificate.kind,
    lineage: certificate.lineage,
    generation: certificate.generation,
    parent: certificate.parent,
    key: certificate.key,
    fingerprint: certificate.fingerprint,
    notAfter: isoTime(certificate.notAfter),
    ...(request.replaces === undefined
      ? {}
      : { replaces: request.replaces.record.serial, crl: request.replaces.crls[0]?.number ?? null }),
    ...request.facts,
  });
}
