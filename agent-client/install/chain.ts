import { X509Certificate } from "node:crypto";
import { booleanValue, DerReader, smallInteger } from "@newleaf/shared/der-reader";
import { tags } from "@newleaf/shared/der";
import { readExtension } from "@newleaf/shared/extension";

/** Leaf, two intermediates (one of them may be a cross-certificate), root. Newleaf's own chains have one intermediate. */
const maxSteps = 3;
const basicConstraints = "2.5.29.19";
const keyUsage = "2.5.29.15";

/** Why a chain does not hold; `message` names the two certificates. */
export class ChainError extends Error {
  override readonly name = "ChainError";
}

/** What of a certificate Node's X509Certificate does not show. */
interface Read {
  readonly certificate: X509Certificate;
  /** DER Names. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** basicConstraints: null without cA. */
  readonly authority: { readonly pathLength: number } | null;
  /** keyCertSign, or no keyUsage at all. */
  readonly maySign: boolean;
}

/**
 * Follows `chain` from `leaf`, in the order given, up to one of `roots`, and returns the CAs on the way, the root last.
 *
 * An own check of at most three steps, each an exact one: names byte for byte and key ids (X509_check_issued), signature,
 * cA and keyCertSign, path length, dates. It searches nothing, so cross-signed pairs cannot lead it in circles; the judge in
 * the end is the verifying handshake (OpenSSL).
 *
 * @param now milliseconds since the epoch, for the dates of the CAs (the leaf's are not looked at)
 * @throws ChainError
 */
export function followChain(
  leaf: Buffer,
  chain: readonly Buffer[],
  roots: readonly Buffer[],
  now: number,
): readonly X509Certificate[] {
  if (roots.length === 0) throw new ChainError("there is no root to verify to");
  const anchors = roots.map((der) => read(der, "a root"));
  const path: X509Certificate[] = [];
  let subject = read(leaf, "the leaf");
  for (let step = 0; step < maxSteps; step += 1) {
    const anchor = anchors.find((root) => whyNotIssuer(subject, root, step, now) === null);
    if (anchor !== undefined) return [...path, anchor.certificate];
    const next = chain[step];
    if (next === undefined) throw new ChainError(explainEnd(subject, anchors, step, now));
    const issuer = read(next, `certificate ${step + 1} of the chain`);
    const why = whyNotIssuer(subject, issuer, step, now);
    if (why !== null) throw new ChainError(`${nameOf(issuer)} cannot stand above ${nameOf(subject)}: ${why}`);
    path.push(issuer.certificate);
    subject = issuer;
  }
  throw new ChainError(`no root within ${maxSteps} steps of the leaf`);
}

/** Null when `issuer` issued `subject` and may have; `below` counts the CAs between it and the leaf. */
function whyNotIssuer(subject: Read, issuer: Read, below: number, now: number): string | null {
  if (!subject.issuer.equals(issuer.subject)) return "the issuer's name is another";
  if (!subject.certificate.checkIssued(issuer.certificate)) return "key ids or key usage do not fit";
  if (!subject.certificate.verify(issuer.certificate.publicKey)) return "the signature is not its own";
  if (issuer.authority === null || !issuer.maySign) return "it is not a CA certificate";
  if (issuer.authority.pathLength < below) return "its path length does not allow it";
  if (issuer.certificate.validFromDate.getTime() > now) return `it is valid only from ${issuer.certificate.validFrom}`;
  if (issuer.certificate.validToDate.getTime() <= now) return `it expired ${issuer.certificate.validTo}`;
  return null;
}

function explainEnd(last: Read, anchors: readonly Read[], below: number, now: number): string {
  const namesake = anchors.find((root) => root.subject.equals(last.issuer));
  const why = namesake === undefined ? "no such root is trusted" : whyNotIssuer(last, namesake, below, now);
  return `the chain ends at ${nameOf(last)}, issued by "${oneLine(last.certificate.issuer)}": ${why ?? "unknown"}`;
}

function read(der: Buffer, what: string): Read {
  try {
    const certificate = new X509Certificate(der);
    const tbs = new DerReader(certificate.raw).sequence("Certificate").sequence("tbsCertificate");
    tbs.optional(0xa0);
    tbs.element(tags.integer, "serialNumber");
    tbs.element(tags.sequence, "signature");
    const issuer = tbs.element(tags.sequence, "issuer").bytes;
    tbs.element(tags.sequence, "validity");
    const subject = tbs.element(tags.sequence, "subject").bytes;
    tbs.element(tags.sequence, "subjectPublicKeyInfo");
    tbs.optional(0x81);
    tbs.optional(0x82);
    return { certificate, issuer, subject, ...readCaExtensions(tbs.optional(0xa3)) };
  } catch (error) {
    throw new ChainError(`${what} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function readCaExtensions(wrapped: Buffer | null): Pick<Read, "authority" | "maySign"> {
  let authority: Read["authority"] = null;
  let maySign = true;
  const seen = new Set<string>();
  const list = new DerReader(wrapped ?? Buffer.of(tags.sequence, 0)).sequence("extensions");
  while (!list.done) {
    const { id, value } = readExtension(list, seen);
    if (id === basicConstraints) authority = readAuthority(new DerReader(value).sequence("basicConstraints"));
    // RFC 5280 §4.2.1.3: bit 5 of the BIT STRING; the first octet counts unused bits.
    else if (id === keyUsage) maySign = ((new DerReader(value).content(tags.bitString, "keyUsage")[1] ?? 0) & 4) !== 0;
  }
  return { authority, maySign };
}

function readAuthority(fields: DerReader): Read["authority"] {
  const flag = fields.optional(tags.boolean);
  if (flag === null || !booleanValue(flag, "cA")) return null;
  const limit = fields.optional(tags.integer);
  return { pathLength: limit === null ? Number.POSITIVE_INFINITY : smallInteger(limit, "pathLenConstraint") };
}

function nameOf(read: Read): string {
  return `"${oneLine(read.certificate.subject)}"`;
}

/** Node shows one attribute a line. */
function oneLine(name: string): string {
  return name.replaceAll("\n", ", ");
}
