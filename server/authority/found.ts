/**
 * The founding of a certification authority: root, intermediate, their first CRLs, bundle 1, the first operator and the service's own
 * identity. `prepareFounding` makes the values and writes nothing; `recordFounding` puts them into an empty store.
 */
import { createPublicKey, type KeyObject } from "node:crypto";
import { fingerprint, spkiOf } from "@newleaf/shared/fingerprint";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { createIntermediate, createRoot, createTwin } from "../ca/ceremony.ts";
import { thisUpdateOf } from "../ca/crl-times.ts";
import { buildCrl } from "../ca/crl.ts";
import { type Issuer, openIssuer } from "../ca/issuer.ts";
import { prepareLeaf, signLeaf } from "../ca/leaf.ts";
import type { LeafProfile } from "../ca/profile.ts";
import { renewalWindow } from "../ca/renewal-window.ts";
import { newSerial } from "../ca/serial.ts";
import type { AuditEntry } from "../store/audit.ts";
import type { IssuanceRecord } from "../store/certificates.ts";
import type { CrlRecord, Foundation, IssuerRow } from "../store/issuers.ts";
import type { Store } from "../store/store.ts";
import { auditEntry, type Caller, systemCaller } from "./authority.ts";

/** Identity of the service's own certificates. */
export const serviceIdentity = "newleaf";

export interface FoundingRequest {
  readonly caName: string;
  readonly publicUrl: string;
  /** Identity id of the first operator, who gets the role admin. */
  readonly operator: string;
  readonly operatorProfile: LeafProfile;
  /** Fractions of a leaf's life, as in the configuration. */
  readonly renewal: { readonly at: number; readonly spread: number };
  /** Milliseconds that the intermediate's CRLs live. */
  readonly crlLifetime: number;
  readonly now: number;
  /** Cryptographically random bytes. */
  readonly random: (size: number) => Buffer;
}

/** Everything that was made. Keys are in memory only. */
export interface Founding {
  readonly root: Issuer;
  readonly rootKey: KeyObject;
  readonly intermediate: Issuer;
  readonly intermediateKey: KeyObject;
  readonly operatorKey: KeyObject;
  readonly operatorLeaf: Buffer;
  readonly foundation: Foundation;
  readonly operatorIssuance: Omit<IssuanceRecord, "basis">;
}

/**
 * Makes root (P-384), intermediate (P-256), CRLs and the first operator's leaf.
 * @throws AppError when a value does not fit into a certificate
 */
export async function prepareFounding(request: FoundingRequest): Promise<Founding> {
  const { now, caName, publicUrl, random } = request;
  const rootKey = await generateKey("ecdsa-p384");
  const rootDer = await createRoot({ caName, now, key: rootKey, random: random(16) });
  const root = openIssuer(rootDer, rootKey);

  const intermediateKey = await generateKey("ecdsa-p256");
  const intermediateDer = await createIntermediate({
    caName,
    root: rootDer,
    rootKey,
    key: intermediateKey,
    now,
    publicUrl,
    random: random(16),
  });
  const intermediate = openIssuer(intermediateDer, intermediateKey);
  const twin = await createTwin({ certificate: intermediateDer, key: intermediateKey, random: random(16) });

  const caller = systemCaller("init");
  const operatorKey = await generateKey("ecdsa-p256");
  const operatorIssuance = firstOperatorLeaf(request, intermediate, operatorKey, caller);
  const issuers = [issuerRow("root", root, root.id, null), issuerRow("intermediate", intermediate, root.id, twin)];
  return {
    root,
    rootKey,
    intermediate,
    intermediateKey,
    operatorKey,
    operatorLeaf: Buffer.from(operatorIssuance.certificate.der),
    operatorIssuance,
    foundation: {
      issuers,
      // The root is offline from now on: its CRL lives as long as the intermediate that it vouches for.
      crls: [firstCrl(root, now, intermediate.notAfter), firstCrl(intermediate, now, now + request.crlLifetime)],
      bundle: { version: 1, createdAt: now, roots: [root.id], intermediates: [intermediate.id], crossCertificates: [] },
      identities: [
        {
          entry: { id: request.operator, profile: "operator", names: noNames, keys: [], labels: {} },
          role: "admin",
        },
        {
          entry: {
            id: serviceIdentity,
            profile: "service",
            // What its certificates name is configuration (hosts), read again at each issuance.
            names: noNames,
            keys: [],
            labels: {},
          },
        },
      ],
      at: now,
      audit: foundingEntries(request, issuers, caller),
    },
  };
}

/**
 * Writes a founding into an empty store: first the foundation, then the operator's leaf through the same door as every other leaf.
 * @throws AppError `conflict` when the store already has issuers
 */
export async function recordFounding(store: Store, founding: Founding): Promise<void> {
  await store.found(founding.foundation);
  const { certificate } = founding.operatorIssuance;
  const identity = await store.findIdentity(certificate.identity);
  if (identity === null) throw new Error(`the store lost identity ${certificate.identity}`);
  await store.recordIssuance({
    ...founding.operatorIssuance,
    basis: {
      identity: { id: identity.id, revision: identity.revision },
      issuerId: certificate.issuerId,
      noLockedLineage: true,
    },
  });
  // Key and leaf are in the operator's directory when init ends: nobody else can hold them, there is no first use to wait for.
  await store.promote({
    serial: certificate.serial,
    at: certificate.issuedAt,
    audit: [
      auditEntry(systemCaller("init"), certificate.issuedAt, "certificate.first-used", certificate.serial, {
        identity: certificate.identity,
        by: "init",
      }),
    ],
  });
}

function firstOperatorLeaf(
  request: FoundingRequest,
  issuer: Issuer,
  key: KeyObject,
  caller: Caller,
): Omit<IssuanceRecord, "basis"> {
  const { now, random, operator } = request;
  const spki = spkiOf(key);
  const prepared = prepareLeaf({
    profile: request.operatorProfile,
    identity: operator,
    names: noNames,
    publicKey: createPublicKey(key),
    spki,
    serial: newSerial(random(16)),
    now,
    issuer,
    publicUrl: request.publicUrl,
  });
  const der = signLeaf(prepared, issuer);
  const period = renewalWindow({ issuedAt: now, notAfter: prepared.notAfter, ...request.renewal });
  const lineage = random(8).toString("hex");
  const facts = { profile: "operator", kind: "enrollment", lineage, generation: 1, key: fingerprint(spki) };
  return {
    certificate: {
      serial: prepared.serial,
      issuerId: issuer.id,
      identity: operator,
      profile: "operator",
      kind: "enrollment",
      lineage,
      generation: 1,
      parent: null,
      state: "pending",
      key: fingerprint(spki),
      fingerprint: fingerprint(der),
      der,
      notBefore: prepared.notBefore,
      notAfter: prepared.notAfter,
      issuedAt: now,
      renewalStart: period.start,
      renewalEnd: period.end,
    },
    newLineage: lineage,
    audit: [
      auditEntry(caller, now, "certificate.issued", prepared.serial, {
        identity: operator,
        ...facts,
        fingerprint: fingerprint(der),
        notAfter: new Date(prepared.notAfter).toISOString(),
      }),
    ],
  };
}

function issuerRow(kind: "root" | "intermediate", issuer: Issuer, parent: string, twin: Uint8Array | null): IssuerRow {
  const { id, certificate, notBefore, notAfter } = issuer;
  return { id, kind, parent, state: "active", certificate, twin, notBefore, notAfter };
}

function firstCrl(issuer: Issuer, now: number, nextUpdate: number): CrlRecord {
  const thisUpdate = thisUpdateOf(now, null, nextUpdate - now);
  const values = { number: 1, thisUpdate, nextUpdate };
  return { issuerId: issuer.id, ...values, der: buildCrl({ issuer, ...values, revoked: [] }) };
}

function foundingEntries(request: FoundingRequest, issuers: readonly IssuerRow[], caller: Caller): AuditEntry[] {
  const { now } = request;
  return [
    ...issuers.map((row) =>
      auditEntry(caller, now, "issuer.added", row.id, { kind: row.kind, fingerprint: fingerprint(row.certificate) }),
    ),
    ...issuers.map((row) => auditEntry(caller, now, "crl.published", row.id, { number: 1, reason: "founded" })),
    auditEntry(caller, now, "identity.added", request.operator, { profile: "operator", role: "admin" }),
    auditEntry(caller, now, "identity.added", serviceIdentity, { profile: "service" }),
  ];
}
