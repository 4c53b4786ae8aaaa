import type { KeyObject } from "node:crypto";
import { spkiOf } from "@newleaf/shared/fingerprint";
import { AppError } from "@newleaf/shared/problems";
import { signCaCertificate } from "../x509.ts";
import { authorityKeyId, readBasicConstraints, readCertificate } from "./certificate.ts";
import { openIssuer, readIssuerCertificate, type IssuerCertificate } from "./issuer.ts";
import { keyIdentifier } from "./key-identifier.ts";
import { extensions } from "./oids.ts";
import { newSerial } from "./serial.ts";

export interface RootPlan {
  readonly caName: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Private key; P-384 unless RSA is wanted throughout. */
  readonly key: KeyObject;
  /** 16 fresh random bytes, for the serial number. */
  readonly random: Uint8Array;
}

export interface IntermediatePlan {
  readonly caName: string;
  /** DER. */
  readonly root: Uint8Array;
  readonly rootKey: KeyObject;
  /** The intermediate's key; the public half is enough. */
  readonly key: KeyObject;
  readonly now: number;
  readonly publicUrl: string;
  readonly random: Uint8Array;
}

export interface TwinPlan {
  /** DER of the intermediate. */
  readonly certificate: Uint8Array;
  /** Its private key. */
  readonly key: KeyObject;
  readonly random: Uint8Array;
}

const rootYears = 10;
const intermediateYears = 3;
const second = 1000;
/** For relying parties whose clocks run behind. */
const backdate = 5 * 60 * second;
/** Leaves room for what is appended in a CN of 64 (RFC 5280 appendix A). */
const maxCaName = 40;

/**
 * The self-signed root: ten years, critical CA:TRUE without path length, so that it can sign cross-certificates later.
 * @returns DER
 * @throws AppError `request-invalid` for a CA name that does not fit
 */
export async function createRoot({ caName, now, key, random }: RootPlan): Promise<Buffer> {
  const keyId = keyIdentifier(spkiOf(key));
  const name = caSubject(caName, "Root", keyId);
  const der = await signCaCertificate({
    serial: newSerial(random),
    subject: name,
    issuer: name,
    ...validity(now, rootYears, Number.POSITIVE_INFINITY),
    key,
    keyId,
    signingKey: key,
  });
  openIssuer(der, key);
  return der;
}

/**
 * The issuing CA: three years and never past the root, path length 0, pointing at the root's CRL and certificate under `publicUrl`.
 * @returns DER
 * @throws AppError `request-invalid` (CA name), `conflict` (the root key is not the root's), `issuer-unavailable` (the root has ended)
 */
export async function createIntermediate(plan: IntermediatePlan): Promise<Buffer> {
  const root = readIssuerCertificate(plan.root);
  openIssuer(plan.root, plan.rootKey);
  if (root.notAfter <= plan.now) throw new AppError("issuer-unavailable", "The root has ended; a new root comes first");
  const keyId = keyIdentifier(spkiOf(plan.key));
  const base = plan.publicUrl.replace(/\/+$/, "");
  const der = await signCaCertificate({
    serial: newSerial(plan.random),
    subject: caSubject(plan.caName, "Issuing CA", keyId),
    issuer: { certificate: plan.root },
    ...validity(plan.now, intermediateYears, root.notAfter),
    key: plan.key,
    keyId,
    signingKey: plan.rootKey,
    authorityKeyId: root.keyId,
    pathLength: 0,
    crlUrl: `${base}/crl/${root.id}.crl`,
    issuerUrl: `${base}/issuers/${root.id}.crt`,
  });
  requireChild(der, root);
  return der;
}

/**
 * A self-signed certificate with the name, key and dates of an issuing CA: the trust anchor of the listeners, so that
 * no handshake verifies up to the P-384 root. Never published.
 * @returns DER
 * @throws AppError `conflict` (the key is not the certificate's)
 */
export async function createTwin({ certificate, key, random }: TwinPlan): Promise<Buffer> {
  const original = readIssuerCertificate(certificate);
  openIssuer(certificate, key);
  const der = await signCaCertificate({
    serial: newSerial(random),
    subject: { certificate },
    issuer: { certificate },
    notBefore: original.notBefore,
    notAfter: original.notAfter,
    key,
    keyId: original.keyId,
    signingKey: key,
    pathLength: 0,
  });
  const twin = readIssuerCertificate(der);
  const same =
    twin.subject.equals(original.subject) && twin.issuer.equals(original.subject) && twin.spki.equals(original.spki);
  if (!same) throw new Error("The twin does not have the name and key of its original");
  return der;
}

/** A different name for every key, so that two generations are never mistaken for one another (RFC 5280 §4.1.2.4). */
function caSubject(
  caName: string,
  role: string,
  keyId: Buffer,
): { readonly organization: string; readonly commonName: string } {
  const printable =
    caName.trim() === caName && caName.length > 0 && caName.length <= maxCaName && !/[\p{C}\p{Zl}\p{Zp}]/u.test(caName);
  if (!printable)
    throw new AppError(
      "request-invalid",
      `A CA name has 1 to ${maxCaName} printable characters, without blanks at its ends`,
    );
  return { organization: caName, commonName: `${caName} ${role} ${keyId.toString("hex", 0, 3)}` };
}

/** Whole seconds; both ends belong to the period (RFC 5280 §4.1.2.5). */
function validity(
  now: number,
  years: number,
  limit: number,
): { readonly notBefore: number; readonly notAfter: number } {
  const end = new Date(now);
  end.setUTCFullYear(end.getUTCFullYear() + years);
  const notAfter = Math.min(Math.floor(end.getTime() / second) * second - second, limit);
  return { notBefore: Math.floor((now - backdate) / second) * second, notAfter };
}

/** The library encodes names anew; a chain holds only if that gave the same bytes. */
function requireChild(der: Buffer, root: IssuerCertificate): void {
  const fields = readCertificate(der);
  const constraints = readBasicConstraints(
    fields.extensions.get(extensions.basicConstraints)?.value ?? Buffer.alloc(0),
  );
  const holds = fields.issuer.equals(root.subject) && authorityKeyId(fields)?.equals(root.keyId) === true;
  if (!holds || constraints.pathLength !== 0)
    throw new Error("The intermediate does not chain to its root byte for byte");
  readIssuerCertificate(der);
}
