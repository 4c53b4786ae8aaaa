/**
 * Leaves that bear the signature of an issuer of ours and are not in the store: issued after the backup that was restored without its
 * journal, or by somebody who holds the issuer's key. They are refused, kept, and an operator decides.
 */
import type { X509Certificate } from "node:crypto";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { allNames } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { leafIdentity, leafNames } from "../ca/leaf.ts";
import { readCertificate } from "../ca/certificate.ts";
import { renewalWindow } from "../ca/renewal-window.ts";
import type { NewCertificate } from "../store/certificates.ts";
import type { IdentityRow } from "../store/identities.ts";
import type { UnvouchedRow } from "../store/restores.ts";
import type { RevocationReason } from "../store/revocations.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "./authority.ts";
import { requireTouch } from "./permissions.ts";
import { commitWithNextCrls, inPublicationTurn } from "./revocation/publish-crl.ts";

/** Kept at once. Each bears our signature, so there are no more than were issued; the rest comes when these are decided. */
const maxOpen = 10_000;
/** A host that is refused knocks every few seconds; that it is still there is written down once in this time. */
const noteEvery = 10 * 60_000;
const maxRemembered = 20_000;

const lastNoted = new WeakMap<Authority, Map<string, number>>();

/**
 * Keeps the leaf that was just refused. The caller has verified its signature.
 * @param issuerId the issuer that signed it
 */
export async function noteUnvouched(
  authority: Authority,
  caller: Caller,
  leaf: { readonly certificate: X509Certificate; readonly serial: string },
  issuerId: string,
): Promise<void> {
  const now = authority.clock.now();
  const der = new Uint8Array(leaf.certificate.raw);
  const { notBefore, notAfter, spki } = readCertificate(der);
  if (notAfter < now || !isDue(authority, leaf.serial, now)) return;
  const identity = leafIdentity(der) ?? "(unreadable)";
  const { address } = caller;
  const sight = { serial: leaf.serial, issuerId, identity, key: fingerprint(spki), notBefore, notAfter, address, der };
  const facts = { identity, issuer: issuerId, key: sight.key, notAfter: new Date(notAfter).toISOString() };
  const isNew = await authority.store.noteUnvouched(sight, now, maxOpen, [
    auditEntry(caller, now, "certificate.unvouched", leaf.serial, facts),
  ]);
  if (isNew) authority.events.unvouched({ serial: leaf.serial, identity, address });
}

function isDue(authority: Authority, serial: string, now: number): boolean {
  let noted = lastNoted.get(authority);
  if (noted === undefined) lastNoted.set(authority, (noted = new Map()));
  const last = noted.get(serial);
  if (last !== undefined && now >= last && now - last < noteEvery) return false;
  noted.delete(serial);
  noted.set(serial, now);
  const [oldest] = noted.keys();
  if (noted.size > maxRemembered && oldest !== undefined) noted.delete(oldest);
  return true;
}

/**
 * The operator vouches for it: it enters the store as a leaf of the identity it names, in a lineage of its own, and the next request
 * made with it is its first use.
 * @throws AppError serial-unknown, conflict (decided already, over, its issuer issues no more, its serial is another leaf's), not-permitted
 * (role; profiles that need two operators), identity-unknown, identity-suspended, names-not-permitted, lineage-locked, key-in-use, key-blocked
 */
export async function adoptUnvouched(authority: Authority, caller: Caller, serial: string): Promise<NewCertificate> {
  caller.target = serial;
  return onFreshBasis(async () => {
    const now = authority.clock.now();
    const row = await requireOpen(authority, serial);
    await requireTouch(authority, caller, row.identity);
    const identity = await requireAdoptable(authority, row, now);
    const lineage = authority.random(8).toString("hex");
    const period = renewalWindow({ issuedAt: now, notAfter: row.notAfter, ...authority.config.renewal });
    const { issuerId, key, der, notBefore, notAfter } = row;
    const certificate: NewCertificate = {
      serial,
      issuerId,
      identity: identity.id,
      profile: identity.profile,
      kind: "recovery",
      lineage,
      generation: 1,
      parent: null,
      state: "pending",
      key,
      fingerprint: fingerprint(der),
      der: new Uint8Array(der),
      notBefore,
      notAfter,
      issuedAt: now,
      renewalStart: period.start,
      renewalEnd: period.end,
    };
    const detail = { identity: identity.id, lineage, key, fingerprint: certificate.fingerprint, address: row.address };
    await authority.store.adoptUnvouched(
      {
        certificate,
        basis: { identity: { id: identity.id, revision: identity.revision }, issuerId, noLockedLineage: true },
        newLineage: lineage,
        audit: [auditEntry(caller, now, "certificate.adopted", serial, detail)],
      },
      caller.actor,
    );
    authority.events.acted("certificate.adopted", caller, detail);
    return certificate;
  });
}

async function requireAdoptable(authority: Authority, row: UnvouchedRow, now: number): Promise<IdentityRow> {
  const { store, issuers, config } = authority;
  if (row.notAfter <= now) throw new AppError("conflict", `${row.serial} has expired; there is nothing left to adopt`);
  if ((await store.findCertificate(row.serial)) !== null)
    throw new AppError(
      "conflict",
      `${row.serial} is the serial of another certificate of this store: revoke it, and that one`,
    );
  if (issuers.rows.find(({ id }) => id === row.issuerId)?.state !== "active")
    throw new AppError("conflict", `The issuer ${row.issuerId} issues no more; let the host enroll again`);
  const identity = await store.findIdentity(row.identity);
  if (identity === null || identity.state === "removed") {
    throw new AppError(
      "identity-unknown",
      `The leaf says it is ${row.identity}, which is not in the inventory. Add it as it was, then adopt again`,
    );
  }
  if (identity.state === "suspended")
    throw new AppError("identity-suspended", `Identity ${identity.id} is suspended; resume it first`);
  if (identity.profile !== "service" && config.profiles[identity.profile].approvals > 1) {
    throw new AppError(
      "not-permitted",
      `Profile ${identity.profile} needs two operators, and an adoption is one: let ${identity.id} enroll again`,
    );
  }
  if ((await store.findLockedLineage(identity.id)) !== null)
    throw new AppError("lineage-locked", `A lineage of ${identity.id} is locked; release or revoke it first`);
  const permitted = new Set(allNames(identity.names));
  const foreign = allNames(leafNames(row.der)).filter((name) => !permitted.has(name));
  if (foreign.length > 0) {
    throw new AppError(
      "names-not-permitted",
      `The leaf holds ${foreign.join(", ")}, which ${identity.id} may not have now. Set its names as they were, or let it enroll again`,
    );
  }
  return identity;
}

/**
 * The operator does not: its serial goes onto the CRL, and with keyCompromise its key is never accepted again.
 * @throws AppError serial-unknown, conflict (decided already), not-permitted
 */
export async function revokeUnvouched(
  authority: Authority,
  caller: Caller,
  serial: string,
  reason: RevocationReason,
): Promise<void> {
  caller.target = serial;
  if (reason === "certificateHold") {
    throw new AppError(
      "reason-invalid",
      "It is refused already, as if it were on hold; give the reason it is revoked for",
    );
  }
  const decideAndRecord = async (): Promise<void> => {
    const now = authority.clock.now();
    const row = await requireOpen(authority, serial);
    await requireTouch(authority, caller, row.identity);
    const { issuerId, notAfter } = row;
    const records = [{ issuerId, serial, reason, revokedAt: now, notAfter }];
    const detail = { identity: row.identity, reason, unvouched: true };
    await commitWithNextCrls(authority, { add: records }, (crls) =>
      authority.store.revokeUnvouched(
        serial,
        {
          records,
          basis: new Map([[serial, null]]),
          blockKeys: reason === "keyCompromise" ? [row.key] : [],
          endLineages: [],
          crls,
          audit: [auditEntry(caller, now, "certificate.revoked", serial, detail)],
        },
        caller.actor,
        now,
      ),
    );
    for (const record of records) authority.events.revoked(record);
  };
  await inPublicationTurn(authority, () => onFreshBasis(decideAndRecord));
}

async function requireOpen(authority: Authority, serial: string): Promise<UnvouchedRow> {
  const row = await authority.store.findUnvouched(serial);
  if (row === null)
    throw new AppError(
      "serial-unknown",
      `No leaf ${serial.slice(0, 60)} was refused as unknown; see newleaf cert unvouched list`,
    );
  if (row.state !== "open")
    throw new AppError("conflict", `${serial} was ${row.state} already, by ${row.decidedBy ?? "?"}`);
  return row;
}
