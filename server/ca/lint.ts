import { DerReader, oidText, readElement, requireDer } from "@newleaf/shared/der-reader";
import { implicit, sequence, setOf, tags, utf8String } from "@newleaf/shared/der";
import { allNames, identicalNames, readGeneralNames, type Names } from "@newleaf/shared/names";
import { AppError } from "@newleaf/shared/problems";
import { authorityKeyId, readKeyUsage, readTbsCertificate, subjectKeyId, type TbsCertificate } from "./certificate.ts";
import type { Issuer } from "./issuer.ts";
import { caIssuers, encoded, extensions, keyPurposes, keyUsageBits } from "./oids.ts";
import type { LeafProfile } from "./profile.ts";

/** What is about to be signed, and what it was decided to be. */
export interface LintQuestion {
  readonly tbs: Uint8Array;
  readonly profile: LeafProfile;
  readonly identity: string;
  readonly names: Names;
  readonly spki: Uint8Array;
  readonly serial: string;
  readonly now: number;
  readonly issuer: Issuer;
}

export interface Finding {
  readonly clause: string;
  readonly message: string;
}

const minSerialOctets = 8;
const maxSerialOctets = 20;
const maxCommonName = 64;
const keyIdOctets = 20;
/** Extensions a leaf has, and whether they are critical. Any other is a finding. */
const allowed: ReadonlyMap<string, boolean> = new Map([
  [extensions.authorityKeyId, false],
  [extensions.subjectKeyId, false],
  [extensions.keyUsage, true],
  [extensions.extendedKeyUsage, false],
  [extensions.subjectAltName, false],
  [extensions.crlDistributionPoints, false],
  [extensions.authorityInfoAccess, false],
]);
const rsaEncryption = "1.2.840.113549.1.1.1";

/**
 * @throws AppError `internal` that names the clause of every finding
 */
export function requireClean(question: LintQuestion): void {
  const findings = lintLeaf(question);
  if (findings.length === 0) return;
  const list = findings.map(({ clause, message }) => `${clause}: ${message}`).join("; ");
  throw new AppError(
    "internal",
    `The leaf ${question.serial} was not signed because it breaks the certificate profile: ${list}`,
  );
}

/** Reads the bytes anew, without the code that wrote them, and holds each field against RFC 5280 and the profile. */
export function lintLeaf(question: LintQuestion): Finding[] {
  let leaf: TbsCertificate;
  try {
    requireDer(question.tbs, "tbsCertificate");
    leaf = readTbsCertificate(question.tbs);
    return [...lintFields(leaf, question), ...lintExtensions(leaf, question)];
  } catch (error) {
    return [{ clause: "X.690", message: error instanceof Error ? error.message : String(error) }];
  }
}

function lintFields(leaf: TbsCertificate, question: LintQuestion): Finding[] {
  const { profile, identity, spki, serial, now, issuer } = question;
  const found = collector();
  const octets = leaf.serial.length / 2 + (leaf.serial >= "8" ? 1 : 0);
  const subject = sequence(setOf(sequence(encoded.commonName, utf8String(identity))));
  found(
    "RFC 5280 §4.1.2.2",
    leaf.serial === serial && octets >= minSerialOctets && octets <= maxSerialOctets,
    "the serial number is not the one given, or not of 8 to 20 octets",
  );
  found(
    "RFC 5280 §4.1.2.3",
    leaf.signatureAlgorithm.equals(issuer.signatureAlgorithm),
    "the signature algorithm is not the issuer's",
  );
  found(
    "RFC 5280 §4.1.2.4",
    leaf.issuer.equals(issuer.subject),
    "the issuer is not the issuing CA's subject, byte for byte",
  );
  found("RFC 5280 §4.1.2.5", leaf.notBefore <= now && leaf.notAfter > now, "it is not in date now");
  found("RFC 5280 §4.1.2.5", leaf.notAfter <= issuer.notAfter, "it outlives its issuer");
  found(
    "profile",
    leaf.notAfter < now + profile.validity && now - leaf.notBefore < profile.backdate + 1000,
    "it lives longer than its profile allows",
  );
  found(
    "RFC 5280 §4.1.2.6",
    leaf.subject.equals(subject),
    "the subject is not one CN with the identity's id as UTF8String",
  );
  found(
    "RFC 5280 appendix A",
    identity.length >= 1 && identity.length <= maxCommonName,
    "the CN has not 1 to 64 characters",
  );
  found("RFC 5280 §4.1.2.7", leaf.spki.equals(spki), "the public key is not the request's");
  return found.findings;
}

function lintExtensions(leaf: TbsCertificate, { profile, names, issuer }: LintQuestion): Finding[] {
  const found = collector();
  const value = (id: string): Buffer => leaf.extensions.get(id)?.value ?? Buffer.alloc(0);
  for (const { id, critical } of leaf.extensions.values()) {
    found(
      "RFC 5280 §4.2",
      allowed.get(id) === critical,
      `the extension ${id} does not belong in a leaf, or not with critical ${critical}`,
    );
  }
  found(
    "RFC 5280 §4.2.1.1",
    value(extensions.authorityKeyId).equals(sequence(implicit(0, issuer.keyId))) && authorityKeyId(leaf) !== null,
    "the authority key identifier is not the issuer's key identifier",
  );
  found(
    "RFC 5280 §4.2.1.2",
    subjectKeyId(leaf)?.length === keyIdOctets,
    `the subject key identifier has not ${keyIdOctets} octets`,
  );
  found(
    "RFC 5280 §4.2.1.3",
    sameSet(readKeyUsage(value(extensions.keyUsage)), expectedUsage(leaf, profile)),
    "the key usage does not fit key and profile",
  );
  const hasNames = allNames(names).length > 0;
  const altName = leaf.extensions.get(extensions.subjectAltName)?.value;
  found(
    "RFC 5280 §4.2.1.6",
    hasNames ? altName !== undefined && identicalNames(readGeneralNames(altName), names) : altName === undefined,
    "the subject alternative names are not the inventory's",
  );
  const purposes = new Set(profile.extendedKeyUsage.map((usage): string => keyPurposes[usage]));
  found(
    "RFC 5280 §4.2.1.12",
    purposes.size > 0 && sameSet(readPurposes(value(extensions.extendedKeyUsage)), purposes),
    "the extended key usage is not the profile's",
  );
  found(
    "RFC 5280 §4.2.1.13",
    isUrl(readCrlUrl(value(extensions.crlDistributionPoints)), `/crl/${issuer.id}.crl`),
    "the CRL distribution point is not a URL of the issuer's CRL",
  );
  found(
    "RFC 5280 §4.2.2.1",
    isUrl(readIssuerUrl(value(extensions.authorityInfoAccess)), `/issuers/${issuer.id}.crt`),
    "the authority information access is not a URL of the issuer's certificate",
  );
  return found.findings;
}

function collector(): ((clause: string, holds: boolean, message: string) => void) & { readonly findings: Finding[] } {
  const findings: Finding[] = [];
  const check = (clause: string, holds: boolean, message: string): void => {
    if (!holds) findings.push({ clause, message });
  };
  return Object.assign(check, { findings });
}

/** keyEncipherment only for RSA keys of servers (RFC 8813 §3 forbids it for EC keys, RFC 8410 §5 for Ed25519). */
function expectedUsage(leaf: TbsCertificate, profile: LeafProfile): Set<number> {
  const algorithm = new DerReader(leaf.spki).sequence("subjectPublicKeyInfo").sequence("algorithm");
  const isRsa = oidText(algorithm.content(tags.oid, "algorithm")) === rsaEncryption;
  const transport = isRsa && profile.extendedKeyUsage.includes("serverAuth");
  return new Set<number>(
    transport ? [keyUsageBits.digitalSignature, keyUsageBits.keyEncipherment] : [keyUsageBits.digitalSignature],
  );
}

function readPurposes(value: Buffer): Set<string> {
  const reader = new DerReader(readElement(value, tags.sequence, "extKeyUsage"));
  const found = new Set<string>();
  while (!reader.done) found.add(oidText(reader.content(tags.oid, "KeyPurposeId")));
  return found;
}

/** The one fullName URI of the one DistributionPoint. */
function readCrlUrl(value: Buffer): string {
  const points = new DerReader(readElement(value, tags.sequence, "cRLDistributionPoints"));
  const point = points.sequence("DistributionPoint");
  points.end("cRLDistributionPoints");
  const name = point.open(0xa0, "distributionPoint").open(0xa0, "fullName");
  point.end("DistributionPoint");
  const url = name.content(0x86, "uniformResourceIdentifier").toString("latin1");
  name.end("fullName");
  return url;
}

function readIssuerUrl(value: Buffer): string {
  const list = new DerReader(readElement(value, tags.sequence, "authorityInfoAccess"));
  const access = list.sequence("AccessDescription");
  list.end("authorityInfoAccess");
  if (oidText(access.content(tags.oid, "accessMethod")) !== caIssuers) return "";
  return access.content(0x86, "uniformResourceIdentifier").toString("latin1");
}

function isUrl(text: string, path: string): boolean {
  return URL.canParse(text) && /^https?:\/\//.test(text) && text.endsWith(path);
}

function sameSet<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean {
  return a.size === b.size && a.isSubsetOf(b);
}
