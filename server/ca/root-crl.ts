/** The next CRL of a CA whose key is brought out for it: the ceremony's answer to an intermediate that must not be trusted any more. */
import { readCrl, type Crl } from "@newleaf/shared/crl";
import { DerError } from "@newleaf/shared/der";
import { verifyBytes } from "@newleaf/shared/key-algorithm";
import { AppError } from "@newleaf/shared/problems";
import type { RevocationReason } from "../store/revocations.ts";
import { readCertificate } from "./certificate.ts";
import { thisUpdateOf } from "./crl-times.ts";
import { buildCrl, type CrlEntry } from "./crl.ts";
import { readIssuerCertificate, type Issuer, type IssuerCertificate } from "./issuer.ts";

export interface RootCrlPlan {
  /** Certificate and key of the CA that signs. */
  readonly issuer: Issuer;
  /** DER of its newest CRL. */
  readonly previous: Uint8Array;
  readonly revoke: readonly { readonly certificate: Uint8Array; readonly reason: RevocationReason }[];
  readonly now: number;
}

export interface RootCrl {
  readonly der: Buffer;
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** The intermediates that are new on it. */
  readonly added: readonly IssuerCertificate[];
  /** All that it lists. */
  readonly entries: readonly CrlEntry[];
}

/**
 * Everything the previous CRL listed, and the intermediates; numbered one above it. It lives as long as the previous one or, if longer,
 * the longest of what it adds, and never past its CA: a root's CRL is renewed at each ceremony, and must outlive what it speaks of.
 * @throws AppError `request-invalid` (not a CRL or certificate), `conflict` (not this CA's; listed already; the clock is behind)
 */
export function nextRootCrl({ issuer, previous, revoke, now }: RootCrlPlan): RootCrl {
  const before = readCrlOf(issuer, previous);
  if (before.thisUpdate > now) {
    throw new AppError(
      "conflict",
      `The previous CRL is of ${new Date(before.thisUpdate).toISOString()}, which the clock here says is to come; set the clock first`,
    );
  }
  const entries = before.revoked.map(toEntry);
  const added = revoke.map(({ certificate }) => readChild(issuer, certificate));
  for (const [index, { serial, id }] of added.entries()) {
    if (entries.some((entry) => entry.serial === serial))
      throw new AppError("conflict", `${id} (serial ${serial}) is on the previous CRL already`);
    entries.push({ serial, revokedAt: now, reason: revoke[index]?.reason ?? "unspecified" });
  }
  entries.sort((a, b) => (a.serial < b.serial ? -1 : 1));
  const nextUpdate = Math.min(issuer.notAfter, Math.max(before.nextUpdate, ...added.map(({ notAfter }) => notAfter)));
  if (nextUpdate <= now)
    throw new AppError("conflict", `Nothing that this CRL speaks of is in date: it would end before it begins`);
  const number = before.number + 1;
  const thisUpdate = thisUpdateOf(now, before.thisUpdate, nextUpdate - now);
  const der = buildCrl({ issuer, number, thisUpdate, nextUpdate, revoked: entries });
  return { der, number, thisUpdate, nextUpdate, added, entries };
}

/**
 * A complete CRL with this CA's name, key identifier and signature.
 * @throws AppError `request-invalid` (cannot be read), `conflict` (somebody else's)
 */
export function readCrlOf(issuer: Pick<Issuer, "id" | "subject" | "keyId" | "publicKey">, der: Uint8Array): Crl {
  let crl: Crl;
  try {
    crl = readCrl(der);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new AppError("request-invalid", `This is no CRL that can be used: ${error.message}`, { cause: error });
  }
  const isOfKey = crl.authorityKeyId === null || crl.authorityKeyId.equals(issuer.keyId);
  if (!crl.issuerName.equals(issuer.subject) || !isOfKey || !crl.verify(issuer.publicKey))
    throw new AppError("conflict", `This CRL is not of issuer ${issuer.id}: name, key or signature is another's`);
  return crl;
}

function readChild(issuer: Issuer, certificate: Uint8Array): IssuerCertificate {
  const child = readIssuerCertificate(certificate);
  const fields = readCertificate(child.certificate);
  if (child.subject.equals(issuer.subject))
    throw new AppError("conflict", "A root is on nobody's CRL; it is replaced, and taken out of the trust bundle");
  const isOurs = fields.issuer.equals(issuer.subject) && verifyBytes(issuer.publicKey, fields.tbs, fields.signature);
  if (!isOurs) throw new AppError("conflict", `${child.id} was not issued by ${issuer.id}; its own issuer revokes it`);
  return child;
}

const usable: ReadonlySet<string> = new Set<RevocationReason>([
  "unspecified",
  "keyCompromise",
  "cACompromise",
  "affiliationChanged",
  "superseded",
  "cessationOfOperation",
  "certificateHold",
  "privilegeWithdrawn",
]);

/**
 * An entry as the service keeps it; a reason that it has no use for is told as none.
 */
export function toEntry(entry: Crl["revoked"][number]): CrlEntry {
  const { serial, revokedAt, reason } = entry;
  return { serial, revokedAt, reason: isReason(reason) ? reason : "unspecified" };
}

function isReason(reason: string | null): reason is RevocationReason {
  return reason !== null && usable.has(reason);
}
