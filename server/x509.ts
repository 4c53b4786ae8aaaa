/**
 * The one place that knows @peculiar/x509: it makes the few certificates of a CA ceremony. Leaves and CRLs are written by
 * `ca/` itself. Its decorators need reflect-metadata before it.
 */
// oxlint-disable-next-line import/no-unassigned-import -- imported for its effect, before the library looks for it
import "reflect-metadata";
import { webcrypto, type KeyObject } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { algorithmOf, describeKey, publicKeyOf } from "@newleaf/shared/key-algorithm";

x509.cryptoProvider.set(webcrypto);

export interface CaCertificatePlan {
  readonly serial: string;
  readonly subject: CaName | SubjectOf;
  readonly issuer: CaName | SubjectOf;
  /** Milliseconds since the epoch, whole seconds: the library would write fractions, which RFC 5280 §4.1.2.5 forbids. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** The certified key; of a private key its public half. */
  readonly key: KeyObject;
  readonly keyId: Uint8Array;
  readonly signingKey: KeyObject;
  /** Absent in self-signed certificates. */
  readonly authorityKeyId?: Uint8Array;
  readonly pathLength?: number;
  readonly crlUrl?: string;
  readonly issuerUrl?: string;
}

export interface CaName {
  readonly organization: string;
  readonly commonName: string;
}

/** The subject of an existing certificate, taken over. */
export interface SubjectOf {
  readonly certificate: Uint8Array;
}

/** A CA certificate in DER: critical basicConstraints CA:TRUE, critical keyUsage keyCertSign and cRLSign, SKI, and what the plan adds. */
export async function signCaCertificate(plan: CaCertificatePlan): Promise<Buffer> {
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: plan.serial,
    subject: nameOf(plan.subject),
    issuer: nameOf(plan.issuer),
    notBefore: new Date(plan.notBefore),
    notAfter: new Date(plan.notAfter),
    publicKey: toCryptoKey(publicKeyOf(plan.key), "verify"),
    signingKey: toCryptoKey(plan.signingKey, "sign"),
    signingAlgorithm: algorithms(plan.signingKey).signing,
    extensions: caExtensions(plan),
  });
  return Buffer.from(certificate.rawData);
}

function caExtensions(plan: CaCertificatePlan): x509.Extension[] {
  const usage = x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign;
  return [
    ...(plan.authorityKeyId === undefined ? [] : [new x509.AuthorityKeyIdentifierExtension(hex(plan.authorityKeyId))]),
    new x509.SubjectKeyIdentifierExtension(hex(plan.keyId)),
    new x509.KeyUsagesExtension(usage, true),
    new x509.BasicConstraintsExtension(true, plan.pathLength, true),
    ...(plan.crlUrl === undefined ? [] : [new x509.CRLDistributionPointsExtension([plan.crlUrl])]),
    ...(plan.issuerUrl === undefined ? [] : [new x509.AuthorityInfoAccessExtension({ caIssuers: [plan.issuerUrl] })]),
  ];
}

/** Structured values only: in its strings and plain JSON the library gives `,`, `"` and `#` a meaning, which injects names. */
function nameOf(name: CaName | SubjectOf): x509.Name {
  if ("certificate" in name) return new x509.X509Certificate(Buffer.from(name.certificate)).subjectName;
  return new x509.Name([{ O: [{ utf8String: name.organization }] }, { CN: [{ utf8String: name.commonName }] }]);
}

function toCryptoKey(key: KeyObject, usage: "sign" | "verify"): webcrypto.CryptoKey {
  return key.toCryptoKey(algorithms(key).key, true, [usage]);
}

interface Algorithms {
  readonly key: { readonly name: string; readonly namedCurve?: string; readonly hash?: string };
  readonly signing: { readonly name: string; readonly hash: string };
}

function algorithms(key: KeyObject): Algorithms {
  switch (algorithmOf(key)) {
    case "ecdsa-p256":
      return { key: { name: "ECDSA", namedCurve: "P-256" }, signing: { name: "ECDSA", hash: "SHA-256" } };
    case "ecdsa-p384":
      return { key: { name: "ECDSA", namedCurve: "P-384" }, signing: { name: "ECDSA", hash: "SHA-384" } };
    case "rsa-3072":
    case "rsa-4096":
      return {
        key: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
        signing: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
      };
    case "ed25519":
    case null:
      throw new Error(`A CA key is ECDSA P-256, ECDSA P-384 or RSA, not ${describeKey(key)}`);
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
