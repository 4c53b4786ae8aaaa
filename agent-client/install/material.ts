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

/** Made of nothing but the material. The second line is how Kubernetes and cert-manager name them in a TLS Secret. */
export const pemFiles = [
  ...(["key.pem", "cert.pem", "chain.pem", "fullchain.pem", "ca.pem", "crl.pem", "combined.pem"] as const),
  ...(["tls.crt", "tls.key", "ca.crt"] as const),
] as const;
export type PemFile = (typeof pemFiles)[number];

/** PKCS#12; these need a passphrase. */
export const storeFiles = ["keystore.p12", "truststore.p12"] as const;
export type StoreFile = (typeof storeFiles)[number];

export const fileNames = [...pemFiles, ...storeFiles] as const;
export type KnownFile = PemFile | StoreFile;

declare const output: unique symbol;
/** The name of a rendered template in a version directory; `outputName` makes it. */
export type OutputName = string & { readonly [output]: true };

export type FileName = KnownFile | OutputName;

const secretFiles: ReadonlySet<FileName> = new Set<FileName>(["key.pem", "combined.pem", "tls.key", "keystore.p12"]);

/** Files that hold the private key, or may (a template): never readable beyond 0640. */
export function isSecretFile(name: FileName): boolean {
  return !isKnownFile(name) || secretFiles.has(name);
}

export function isPemFile(text: string): text is PemFile {
  return (pemFiles as readonly string[]).includes(text);
}

export function isKnownFile(text: string): text is KnownFile {
  return (fileNames as readonly string[]).includes(text);
}

const outputPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/**
 * `text` as the name of a template's output: one path component, no marker (they begin with a dot), none of our own files.
 * Null when it cannot be one.
 */
export function outputName(text: string): OutputName | null {
  const isFree = outputPattern.test(text) && !isKnownFile(text) && text !== "meta.json";
  return isFree ? (text as OutputName) : null;
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
  /** Digest of the templates and the passphrase that the files were made with (`digestOf` of recipe.ts); absent without. */
  readonly recipe?: string;
}

/**
 * The facts of `material` for `stage`. CRLs of unknown CAs are left out.
 * @throws Error when a certificate or CRL cannot be read (call `preflight` first)
 */
export function factsOf(
  material: Material,
  origin: { bundleVersion: number; stagedAt: number; recipe?: string | undefined },
): VersionFacts {
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
    ...(origin.recipe === undefined ? {} : { recipe: origin.recipe }),
  };
}

/** The id the service gives a CA, and by which reports name its CRL. */
export function authorityId(certificate: Buffer): string {
  return issuerId(spkiOf(new X509Certificate(certificate).publicKey));
}
