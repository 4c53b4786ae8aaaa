/** What anybody may fetch: the trust bundle, roots, issuer certificates and CRLs. */
import type { Bundle, ChangesAnswer } from "@newleaf/shared/api";
import { paths } from "@newleaf/shared/api";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import type { CertificateRow } from "../store/certificates.ts";
import type { CrlRecord, IssuerRow } from "../store/issuers.ts";
import type { Authority } from "./authority.ts";
import { isoTime } from "./issue.ts";
import { renewalWindowOf } from "./renewal-window.ts";

export function readBundle(authority: Authority): Bundle {
  const { bundle, crls } = authority.issuers;
  const roots = bundle.roots.map((id) => requireIssuer(authority, id));
  const issuers = bundle.intermediates.map((id) => requireIssuer(authority, id));
  return {
    version: bundle.version,
    roots: roots.map((row) => pemEncode("CERTIFICATE", row.certificate)),
    crossCertificates: bundle.crossCertificates.map((der) => pemEncode("CERTIFICATE", der)),
    issuers: issuers.map((row) => ({ id: row.id, certificate: pemEncode("CERTIFICATE", row.certificate) })),
    crls: [...roots, ...issuers].flatMap((row) => {
      const crl = crls.get(row.id);
      return crl === undefined ? [] : [describeCrl(authority, crl)];
    }),
  };
}

export function describeCrl(authority: Authority, crl: CrlRecord): Bundle["crls"][number] {
  return {
    issuer: crl.issuerId,
    url: `${authority.config.publicUrl}${paths.crl(crl.issuerId)}`,
    number: crl.number,
    thisUpdate: isoTime(crl.thisUpdate),
    nextUpdate: isoTime(crl.nextUpdate),
  };
}

/** Concatenated PEM of the roots in the bundle. */
export function readRoots(authority: Authority): string {
  return readBundle(authority).roots.join("");
}

/** @throws AppError not-found */
export function requireIssuer(authority: Authority, id: string): IssuerRow {
  const row = authority.issuers.rows.find((candidate) => candidate.id === id);
  if (row === undefined) throw new AppError("not-found", `There is no issuer ${id.slice(0, 40)}`);
  return row;
}

/** @throws AppError not-found */
export function requireCrl(authority: Authority, id: string): CrlRecord {
  const crl = authority.issuers.crls.get(id);
  if (crl === undefined) throw new AppError("not-found", `There is no CRL of issuer ${id.slice(0, 40)}`);
  return crl;
}

/** The state a held poll compares with: any difference in bundle, CRLs or renewal window makes another cursor. */
export async function readChanges(authority: Authority, leaf: CertificateRow): Promise<ChangesAnswer> {
  const { bundle, crls } = authority.issuers;
  const window = await renewalWindowOf(authority, leaf);
  const numbers = Object.fromEntries([...crls.values()].map((crl) => [crl.issuerId, crl.number]));
  const spelled = Object.entries(numbers)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, number]) => `${id}:${number}`)
    .join(",");
  return {
    cursor: Buffer.from(`${bundle.version};${spelled};${window.start};${window.reason}`).toString("base64url"),
    bundleVersion: bundle.version,
    crls: numbers,
    renewal: { start: isoTime(window.start), end: isoTime(window.end), reason: window.reason },
  };
}
