import { X509Certificate, type KeyObject } from "node:crypto";
import { readCrl } from "@newleaf/shared/crl";
import { fingerprint, issuerId, spkiOf } from "@newleaf/shared/fingerprint";

/** Everything one certificate's directory is made from. Certificates and CRLs are DER. */
export interface Material {
  /** The private key of `leaf`. */
  readonly key: KeyObject;
  readonly leaf: Buffer;
  /** The intermediates, the leaf's issuer first, no root. */
  readonly chain: readonly Buffer[];
  /** The roots of the trust bundle in force. */
  readonly roots: readonly Buffer[];
  /** The issuing CAs of the trust bundle. */
  readonly issuers: readonly Buffer[];
  /** One for each CA. */
  readonly crls: readonly Buffer[];
}

export const fileNames = [
  "key.pem",
  "cert.pem",
  "chain.pem",
  "fullchain.pem",
  "ca.pem",
  "crl.pem",
  "combined.pem",
] as const;
export type FileName = (typeof fileNames)[number];

/** Files that hold the private key: never readable beyond 0640. */
export const secretFiles: ReadonlySet<FileName> = new Set<FileName>(["key.pem", "combined.pem"]);

export function isFileName(text: string): text is FileName {
  return (fileNames as readonly string[]).includes(text);
}

/** What a version says about itself in its `meta.json`, for whoever reads the directory later. */
export interface VersionFacts {
  /** `sha256:…` of the leaf's DER. */
  readonly fingerprint: string;
  readonly notAfter: number;
  readonly bundleVersion: number;
  /** CA id → number of its CRL in `crl.pem`. */
  readonly crlNumbers: Readonly<Record<string, number>>;
  /** When this set was put together; names the version, so the same value again finds the same version again. */
  readonly stagedAt: number;
}

/**
 * The facts of `material` for `stage`. CRLs of unknown CAs are left out.
 * @throws Error when a certificate or CRL cannot be read (call `preflight` first)
 */
export function factsOf(material: Material, origin: { bundleVersion: number; stagedAt: number }): VersionFacts {
  const leaf = new X509Certificate(material.leaf);
  const crlNumbers: Record<string, number> = {};
  const authorities = [...material.chain, ...material.issuers, ...material.roots];
  for (const crl of material.crls) {
    const list = readCrl(crl);
    const signer = authorities.find((der) => list.verify(new X509Certificate(der).publicKey));
    if (signer !== undefined && list.number !== null) crlNumbers[authorityId(signer)] = list.number;
  }
  return {
    fingerprint: fingerprint(material.leaf),
    notAfter: leaf.validToDate.getTime(),
    bundleVersion: origin.bundleVersion,
    crlNumbers,
    stagedAt: origin.stagedAt,
  };
}

/** The id the service gives a CA, and by which reports name its CRL. */
export function authorityId(certificate: Buffer): string {
  return issuerId(spkiOf(new X509Certificate(certificate).publicKey));
}
