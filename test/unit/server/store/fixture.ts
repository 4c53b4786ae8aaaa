import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fingerprint } from "@newleaf/shared/fingerprint";
import type { AuditEntry } from "../../../../server/store/audit.ts";
import type { IssuanceRecord, NewCertificate } from "../../../../server/store/certificates.ts";
import type { RequestRow } from "../../../../server/store/enrollments.ts";
import type { IdentityEntry, Role } from "../../../../server/store/identities.ts";
import type { CrlRecord, Foundation } from "../../../../server/store/issuers.ts";
import type { RevocationReason, RevocationRecord } from "../../../../server/store/revocations.ts";
import type { Store } from "../../../../server/store/store.ts";

/** The moment the tests happen at; steps are added to it. */
export const t0 = Date.UTC(2026, 10, 20);
export const minute = 60_000;
export const day = 86_400_000;
export const issuerId = "intermediate-1";
export const rootId = "root-1";
export const serviceId = "newleaf-service";
export const adminId = "admin@operators";

export interface Scratch extends AsyncDisposable {
  readonly directory: string;
  readonly path: string;
}

export async function scratch(): Promise<Scratch> {
  const directory = await mkdtemp(join(tmpdir(), "newleaf-store-"));
  return {
    directory,
    path: join(directory, "newleaf.db"),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

export const newSerial = (): string => `4${randomBytes(16).toString("hex").slice(1)}`;
export const newId = (): string => randomBytes(16).toString("hex");
export const newKey = (): string => fingerprint(randomBytes(32));

export function audit(action: string, target?: string, at = t0): AuditEntry {
  return { at, actorKind: "system", actor: "system", action, ...(target === undefined ? {} : { target }) };
}

export function entry(id: string, changes: Partial<IdentityEntry> = {}): IdentityEntry {
  return {
    id,
    profile: "gateway",
    names: { dns: [`${id}.claw.internal`], ip: [], uri: [], email: [] },
    keys: [],
    labels: {},
    ...changes,
  };
}

export function crl(number: number, thisUpdate: number, issuer = issuerId): CrlRecord {
  return { issuerId: issuer, number, thisUpdate, nextUpdate: thisUpdate + 14 * day, der: randomBytes(64) };
}

export function foundation(): Foundation {
  const noNames = { dns: [], ip: [], uri: [], email: [] };
  return {
    issuers: [
      {
        id: rootId,
        kind: "root",
        parent: rootId,
        state: "active",
        certificate: randomBytes(48),
        twin: null,
        notBefore: t0,
        notAfter: t0 + 3650 * day,
      },
      {
        id: issuerId,
        kind: "intermediate",
        parent: rootId,
        state: "active",
        certificate: randomBytes(48),
        twin: randomBytes(48),
        notBefore: t0,
        notAfter: t0 + 1095 * day,
      },
    ],
    crls: [crl(1, t0, rootId), crl(1, t0)],
    bundle: {
      version: 1,
      createdAt: t0,
      roots: [rootId],
      intermediates: [issuerId],
      crossCertificates: [randomBytes(9)],
    },
    identities: [
      { entry: entry(adminId, { profile: "operator", names: noNames }), role: "admin" },
      { entry: entry(serviceId, { profile: "service", names: noNames }) },
    ],
    at: t0,
    audit: [audit("service.founded")],
  };
}

export function leaf(identity: string, changes: Partial<NewCertificate> = {}): NewCertificate {
  const issuedAt = changes.issuedAt ?? t0;
  const der = randomBytes(640);
  return {
    serial: newSerial(),
    issuerId,
    identity,
    profile: "gateway",
    kind: "enrollment",
    lineage: newId(),
    generation: 1,
    parent: null,
    state: "pending",
    key: newKey(),
    fingerprint: fingerprint(der),
    der,
    notBefore: issuedAt - 5 * minute,
    notAfter: issuedAt + 30 * day,
    issuedAt,
    renewalStart: issuedAt + 20 * day,
    renewalEnd: issuedAt + 22 * day,
    ...changes,
  };
}

/** The record of an enrollment that begins a lineage. */
export function enrollment(certificate: NewCertificate, changes: Partial<IssuanceRecord> = {}): IssuanceRecord {
  return {
    certificate,
    basis: { identity: { id: certificate.identity, revision: 1 }, issuerId, noLockedLineage: true },
    ...(certificate.lineage === null ? {} : { newLineage: certificate.lineage }),
    audit: [audit("certificate.issued", certificate.serial, certificate.issuedAt)],
    ...changes,
  };
}

/** The record of a renewal asked for by `parent`, the current leaf and newest generation of its lineage. */
export function renewal(parent: NewCertificate, changes: Partial<NewCertificate> = {}): IssuanceRecord {
  const certificate = leaf(parent.identity, {
    kind: "renewal",
    lineage: parent.lineage,
    generation: parent.generation + 1,
    parent: parent.serial,
    ...changes,
  });
  return {
    certificate,
    basis: {
      identity: { id: parent.identity, revision: 1 },
      issuerId,
      presented: { serial: parent.serial, state: "current" },
      ...(parent.lineage === null
        ? {}
        : { lineage: { id: parent.lineage, newestGeneration: certificate.generation - 1 } }),
    },
    audit: [audit("certificate.issued", certificate.serial, certificate.issuedAt)],
  };
}

export function request(changes: Partial<RequestRow> = {}): RequestRow {
  const createdAt = changes.createdAt ?? t0;
  return {
    id: newId(),
    state: "pending",
    key: newKey(),
    csr: randomBytes(100),
    claim: null,
    askedNames: ["gateway-1"],
    address: "192.0.2.1",
    createdAt,
    expiresAt: createdAt + day,
    identity: null,
    serial: null,
    decidedBy: null,
    decidedAt: null,
    ...changes,
  };
}

export function revocation(
  certificate: NewCertificate,
  reason: RevocationReason,
  revokedAt: number = t0 + minute,
): RevocationRecord {
  return { issuerId, serial: certificate.serial, reason, revokedAt, notAfter: certificate.notAfter };
}

/** Revokes one leaf as the service would without its issuer's key at hand. */
export async function revoke(
  store: Store,
  certificate: NewCertificate,
  reason: RevocationReason,
  before: RevocationReason | null = null,
  crls: readonly CrlRecord[] = [],
): Promise<void> {
  await store.revoke({
    records: [revocation(certificate, reason)],
    basis: new Map([[certificate.serial, before]]),
    blockKeys: [],
    endLineages: [],
    crls,
    audit: [audit("certificate.revoked", certificate.serial)],
  });
}

export async function addIdentity(store: Store, id: string, changes: Partial<IdentityEntry> = {}, role?: Role) {
  const change = { kind: "add", entry: entry(id, changes), ...(role === undefined ? {} : { role }) } as const;
  await store.changeInventory([change], t0, [audit("inventory.changed", id)]);
}

/** An identity with a leaf that has been used: generation 1 of a new lineage, current. */
export async function enrolled(
  store: Store,
  id: string,
  changes: Partial<NewCertificate> = {},
): Promise<NewCertificate> {
  await addIdentity(store, id);
  const certificate = leaf(id, changes);
  await store.recordIssuance(enrollment(certificate));
  await promote(store, certificate.serial);
  return certificate;
}

export async function promote(store: Store, serial: string, at = t0 + minute): Promise<void> {
  const address = "192.0.2.9";
  await store.promote({ serial, at, address, audit: [audit("certificate.first-used", serial, at)] });
}
