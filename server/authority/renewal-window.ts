/** When the service wants a leaf renewed: on schedule, or now because what the leaf says is no longer what would be issued. */
import { leafNames } from "../ca/leaf.ts";
import type { CertificateRow } from "../store/certificates.ts";
import type { IdentityRow } from "../store/identities.ts";
import type { Authority } from "./authority.ts";

export interface Window {
  readonly start: number;
  readonly end: number;
  /** `schedule`, `inventory-changed` or `issuer-draining`. */
  readonly reason: string;
}

/** A start in the past means now. */
export async function renewalWindowOf(authority: Authority, leaf: CertificateRow): Promise<Window> {
  const identity = await authority.store.findIdentity(leaf.identity);
  const issuer = authority.issuers.rows.find((row) => row.id === leaf.issuerId);
  if (issuer?.state !== "active") return { start: leaf.issuedAt, end: leaf.renewalEnd, reason: "issuer-draining" };
  if (identity !== null && isOutdated(leaf, identity))
    return { start: leaf.issuedAt, end: leaf.renewalEnd, reason: "inventory-changed" };
  return { start: leaf.renewalStart, end: leaf.renewalEnd, reason: "schedule" };
}

function isOutdated(leaf: CertificateRow, identity: IdentityRow): boolean {
  return leaf.profile !== identity.profile || !sameNames(leafNames(leaf.der), identity.names);
}

/** The same names, in whatever order. */
export function sameNames(a: IdentityRow["names"], b: IdentityRow["names"]): boolean {
  const spell = (names: IdentityRow["names"]): string =>
    JSON.stringify([names.dns, names.ip, names.uri, names.email].map((list) => list.toSorted()));
  return spell(a) === spell(b);
}
