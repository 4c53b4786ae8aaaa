/** One-time enrollment tokens: bound to one identity, worth one leaf, short-lived. Only a hash of the token is kept. */
import { encodeToken, readToken } from "@newleaf/shared/token";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { AppError } from "@newleaf/shared/problems";
import type { AuditEntry } from "../../store/audit.ts";
import type { TokenRow } from "../../store/enrollments.ts";
import { auditEntry, onFreshBasis, type Authority, type Caller } from "../authority.ts";
import { requireTouchOfProfile, requireTouch } from "../permissions.ts";

export interface CreatedToken {
  readonly id: string;
  /** Shown once. Contains the root's fingerprint, so that the host can trust the service from it alone. */
  readonly token: string;
  readonly identity: string;
  readonly expiresAt: number;
  readonly rootFingerprint: string;
}

const secretBytes = 24;
const minLife = 10_000;
const maxLife = 30 * 86_400_000;

/**
 * @throws AppError identity-unknown, identity-suspended, request-invalid (ttl), not-permitted
 */
export async function createToken(
  authority: Authority,
  caller: Caller,
  identityId: string,
  ttl: number,
): Promise<CreatedToken> {
  caller.target = identityId;
  return onFreshBasis(async () => {
    const identity = await authority.store.findIdentity(identityId);
    if (identity === null || identity.state === "removed")
      throw new AppError("identity-unknown", `${identityId} is not in the inventory; add it first`);
    requireTouchOfProfile(caller, identity.profile);
    if (identity.state === "suspended")
      throw new AppError("identity-suspended", `${identityId} is suspended; resume it first`);

    const { created, row, audit } = prepareToken(authority, caller, identity.id, ttl);
    await authority.store.createToken(row, identity.revision, [audit]);
    authority.events.acted("token.created", caller, { token: row.id, identity: identity.id });
    return created;
  });
}

export interface PreparedToken {
  /** To be shown once the row is durable. */
  readonly created: CreatedToken;
  readonly row: TokenRow & { readonly secretHash: string };
  readonly audit: AuditEntry;
}

/**
 * A new token, for who records it together with other things.
 * @param ttl milliseconds
 * @throws AppError request-invalid (ttl), issuer-unavailable
 */
export function prepareToken(authority: Authority, caller: Caller, identity: string, ttl: number): PreparedToken {
  if (ttl < minLife || ttl > maxLife) throw new AppError("request-invalid", "A token lives between 10s and 30d");
  const now = authority.clock.now();
  const rootFingerprint = fingerprint(trustedRoot(authority));
  const token = encodeToken(rootFingerprint, authority.random(secretBytes));
  const row = {
    id: authority.random(8).toString("hex"),
    identity,
    createdBy: caller.actor,
    createdAt: now,
    expiresAt: now + ttl,
    spentAt: null,
    spentOn: null,
    revokedAt: null,
    secretHash: readToken(token).secretHash,
  };
  const { id, expiresAt } = row;
  const facts = { token: id, expiresAt: new Date(expiresAt).toISOString() };
  return {
    created: { id, token, identity, expiresAt, rootFingerprint },
    row,
    audit: auditEntry(caller, now, "token.created", identity, facts),
  };
}

/** @throws AppError not-found, not-permitted */
export async function revokeToken(authority: Authority, caller: Caller, id: string): Promise<void> {
  caller.target = id;
  const token = await authority.store.findTokenById(id);
  if (token !== null) await requireTouch(authority, caller, token.identity);
  const at = authority.clock.now();
  const facts = token === null ? {} : { identity: token.identity };
  await authority.store.revokeToken(id, at, [auditEntry(caller, at, "token.revoked", id, facts)]);
  authority.events.acted("token.revoked", caller, { token: id });
}

/** The root that the active issuer chains to. */
function trustedRoot(authority: Authority): Uint8Array {
  const { rows } = authority.issuers;
  const active = rows.find((row) => row.kind === "intermediate" && row.state === "active");
  const root =
    rows.find((row) => row.kind === "root" && row.id === active?.parent) ?? rows.find((row) => row.kind === "root");
  if (root === undefined) throw new AppError("issuer-unavailable", "There is no root");
  return root.certificate;
}

/** Grants one recovery to an identity whose leaf has expired. */
export async function grantRecovery(
  authority: Authority,
  caller: Caller,
  identityId: string,
  ttl: number,
): Promise<{ id: string; expiresAt: number }> {
  caller.target = identityId;
  if (ttl < minLife || ttl > maxLife) throw new AppError("request-invalid", "A grant lives between 10s and 30d");
  return onFreshBasis(async () => {
    const identity = await authority.store.findIdentity(identityId);
    if (identity === null || identity.state === "removed")
      throw new AppError("identity-unknown", `${identityId} is not in the inventory`);
    requireTouchOfProfile(caller, identity.profile);
    const now = authority.clock.now();
    const grant = {
      id: authority.random(8).toString("hex"),
      identity: identityId,
      createdBy: caller.actor,
      createdAt: now,
      expiresAt: now + ttl,
      spentAt: null,
    };
    await authority.store.createGrant(grant, identity.revision, [
      auditEntry(caller, now, "recovery.granted", identityId, {
        grant: grant.id,
        expiresAt: new Date(grant.expiresAt).toISOString(),
      }),
    ]);
    authority.events.acted("recovery.granted", caller, { identity: identityId, grant: grant.id });
    return { id: grant.id, expiresAt: grant.expiresAt };
  });
}
