/**
 * Whether to believe a trust bundle and its CRLs. Pure.
 *
 * The online service alone can never install a root: a root is taken only when one that is trusted already vouches for it with a
 * cross-certificate, or when a human put it on this host. A bundle with any other root is refused whole, so that this agent never
 * reports a version that it does not fully hold.
 */
import { X509Certificate } from "node:crypto";
import type { Bundle } from "@newleaf/shared/api";
import { readCrl } from "@newleaf/shared/crl";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { pemDecode } from "@newleaf/shared/pem";
import { authorityId } from "../install/material.ts";

const maxRoots = 16;
const maxCertificates = 128;
const skewMs = 5 * 60_000;

export class BundleError extends Error {
  override readonly name = "BundleError";
}

/** A CRL that is right in everything but the time: its thisUpdate lies ahead of the clock here. */
export class EarlyCrlError extends BundleError {}

export interface AcceptedBundle {
  readonly version: number;
  /** DER. */
  readonly roots: readonly Buffer[];
  readonly issuers: readonly Buffer[];
}

export interface BundleQuestion {
  readonly bundle: Pick<Bundle, "version" | "roots" | "crossCertificates" | "issuers">;
  /** DER of the roots trusted now. */
  readonly trusted: readonly Buffer[];
  /** Version held now; 0 for none. */
  readonly heldVersion: number;
  readonly now: number;
}

/** @throws BundleError saying which rule it breaks */
export function acceptBundle({ bundle, trusted, heldVersion, now }: BundleQuestion): AcceptedBundle {
  if (bundle.version < heldVersion) {
    throw new BundleError(
      `the service offers trust bundle ${bundle.version} and this host holds ${heldVersion}: versions only rise`,
    );
  }
  if (bundle.roots.length > maxRoots || bundle.crossCertificates.length + bundle.issuers.length > maxCertificates) {
    throw new BundleError("the trust bundle is larger than any should be");
  }
  const roots = bundle.roots.map((pem) => certificateOf(pem, "root"));
  const crosses = bundle.crossCertificates.map((pem) => certificateOf(pem, "cross-certificate"));
  const believed = believedRoots(roots, crosses, trusted, now);
  const stranger = roots.find((root) => !believed.includes(root));
  if (stranger !== undefined) {
    throw new BundleError(
      `the trust bundle ${bundle.version} brings the root ${nameOf(stranger)}, for which no trusted root vouches; ` +
        "if it is meant to be, put it into the roots file by hand",
    );
  }
  if (believed.length === 0) throw new BundleError("the trust bundle has no root");
  return {
    version: bundle.version,
    roots: believed.map((root) => root.raw),
    issuers: believedIssuers(bundle.issuers, believed, now),
  };
}

function believedRoots(
  roots: readonly X509Certificate[],
  crosses: readonly X509Certificate[],
  trusted: readonly Buffer[],
  now: number,
): readonly X509Certificate[] {
  // Anchors may vouch although the bundle drops them: that is how a root retires.
  const anchors = trusted.map((der) => new X509Certificate(der));
  const believed = roots.filter((root) => trusted.some((der) => der.equals(root.raw)));
  for (let grew = true; grew;) {
    const found = roots.find(
      (root) => !believed.includes(root) && isRoot(root) && isVouchedFor(root, crosses, [...anchors, ...believed], now),
    );
    grew = found !== undefined;
    if (found !== undefined) believed.push(found);
  }
  return believed;
}

/** A cross-certificate has the new root's name and key, and is signed by one that is trusted (RFC 9810 §4.4: NewWithOld). */
function isVouchedFor(
  root: X509Certificate,
  crosses: readonly X509Certificate[],
  signers: readonly X509Certificate[],
  now: number,
): boolean {
  return crosses.some(
    (cross) =>
      cross.ca &&
      cross.subject === root.subject &&
      spki(cross).equals(spki(root)) &&
      isInDate(cross, now) &&
      signers.some((signer) => isInDate(signer, now) && isSignedBy(cross, signer)),
  );
}

function believedIssuers(
  issuers: Bundle["issuers"],
  roots: readonly X509Certificate[],
  now: number,
): readonly Buffer[] {
  const open = issuers.map(({ id, certificate }) => {
    const issuer = certificateOf(certificate, "issuer");
    if (authorityId(issuer.raw) !== id)
      throw new BundleError(`the issuer ${id} of the trust bundle has another id by its key`);
    return issuer;
  });
  const believed: X509Certificate[] = [];
  for (let grew = true; grew;) {
    const found = open.find(
      (issuer) =>
        issuer.ca && !believed.includes(issuer) && [...roots, ...believed].some((signer) => isSignedBy(issuer, signer)),
    );
    grew = found !== undefined;
    if (found !== undefined) believed.push(found);
  }
  const stranger = open.find((issuer) => !believed.includes(issuer));
  if (stranger !== undefined)
    throw new BundleError(`the issuer ${nameOf(stranger)} of the trust bundle is not under one of its roots`);
  return believed.filter((issuer) => issuer.validToDate.getTime() > now).map((issuer) => issuer.raw);
}

export interface AcceptedCrl {
  readonly der: Buffer;
  readonly number: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Digest of what it revokes, in any order. */
  readonly revoked: string;
}

/**
 * @param authority DER of the CA that it must be from
 * @param heldNumber number of the CRL held now; null for none
 * @throws BundleError; EarlyCrlError when nothing else is wrong with it
 */
export function acceptCrl(der: Buffer, authority: Buffer, heldNumber: number | null, now: number): AcceptedCrl {
  const crl = parseCrl(der);
  const certificate = new X509Certificate(authority);
  if (!crl.verify(certificate.publicKey)) throw new BundleError(`the CRL is not signed by ${nameOf(certificate)}`);
  if (heldNumber !== null && crl.number < heldNumber) {
    throw new BundleError(
      `the CRL of ${nameOf(certificate)} has number ${crl.number} and this host holds ${heldNumber}: numbers only rise; if the service was restored from a backup, run newleaf crl publish there until its number is higher`,
    );
  }
  // Without tolerance: a server with this clock would have none (RFC 5280 §6.3.3), and preflight has none either.
  if (crl.thisUpdate > now) {
    throw new EarlyCrlError(
      `the CRL of ${nameOf(certificate)} is from the future: until it is valid by this clock, an older one is used`,
    );
  }
  // No server takes it; and its number would keep every later one from being accepted.
  if (heldNumber !== null && crl.nextUpdate <= now) {
    throw new BundleError(
      `the CRL of ${nameOf(certificate)} has expired at ${new Date(crl.nextUpdate).toISOString()} by this host's clock: the one held stays; does the service publish, and is the clock right?`,
    );
  }
  const revoked = crl.revoked.map((entry) => `${entry.serial} ${entry.reason ?? ""}`).toSorted();
  return {
    der,
    number: crl.number,
    thisUpdate: crl.thisUpdate,
    nextUpdate: crl.nextUpdate,
    revoked: fingerprint(Buffer.from(revoked.join("\n"))),
  };
}

/** Whether a CRL lists a serial. */
export function isListed(der: Buffer, serial: string): boolean {
  return parseCrl(der).revoked.some((entry) => entry.serial === serial);
}

function parseCrl(der: Buffer): ReturnType<typeof readCrl> {
  try {
    return readCrl(der);
  } catch (cause) {
    throw new BundleError(`a CRL cannot be read: ${(cause as Error).message}`);
  }
}

/** DER of the roots in a PEM text. @throws BundleError when there is none or one is not a root */
export function readRoots(text: string, from: string): readonly Buffer[] {
  let found: readonly Buffer[];
  try {
    found = pemDecode(text, "CERTIFICATE");
  } catch (cause) {
    throw new BundleError(`${from} is not PEM: ${(cause as Error).message}`);
  }
  if (found.length === 0) throw new BundleError(`${from} holds no certificate`);
  for (const der of found) {
    if (!isRoot(parseCertificate(der, from)))
      throw new BundleError(`${from} holds a certificate that is not a root CA`);
  }
  return found;
}

function certificateOf(pem: string, what: string): X509Certificate {
  const blocks = pemDecode(pem, "CERTIFICATE");
  const [der] = blocks;
  if (der === undefined || blocks.length > 1)
    throw new BundleError(`a ${what} of the trust bundle is not one certificate`);
  return parseCertificate(der, `a ${what} of the trust bundle`);
}

function parseCertificate(der: Buffer, what: string): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (cause) {
    throw new BundleError(`${what} cannot be read: ${(cause as Error).message}`);
  }
}

function isRoot(certificate: X509Certificate): boolean {
  return certificate.ca && isSignedBy(certificate, certificate);
}

function isSignedBy(certificate: X509Certificate, signer: X509Certificate): boolean {
  return signer.ca && certificate.checkIssued(signer) && certificate.verify(signer.publicKey);
}

function isInDate(certificate: X509Certificate, now: number): boolean {
  return certificate.validFromDate.getTime() <= now + skewMs && certificate.validToDate.getTime() > now;
}

function spki(certificate: X509Certificate): Buffer {
  return certificate.publicKey.export({ type: "spki", format: "der" });
}

function nameOf(certificate: X509Certificate): string {
  return `${certificate.subject.replaceAll("\n", ", ")} (${fingerprint(certificate.raw)})`;
}
