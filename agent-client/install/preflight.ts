import { type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { createSecureContext } from "node:tls";
import { type Crl, readCrl } from "@newleaf/shared/crl";
import { ChainError, followChain } from "./chain.ts";
import { authorityId, type FileName, type Material } from "./material.ts";
import { renderFiles } from "./render.ts";

export type PreflightCheck =
  | "key"
  | "leaf"
  | "dates"
  | "context"
  | "chain"
  | "roots"
  | "names"
  | "crl"
  | "crl-fresh"
  | "crl-number"
  | "size";

/** A set that must not touch the disk. `message` says what, why and what to do. */
export class PreflightError extends Error {
  override readonly name = "PreflightError";
  readonly check: PreflightCheck;

  constructor(check: PreflightCheck, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.check = check;
  }
}

export interface PreflightOptions {
  readonly now: number;
  /** What the probes will ask for: DNS names or IP addresses the leaf must cover. */
  readonly serverNames: readonly string[];
  /** DER of the roots the agent trusts; the chain must end at one of them. */
  readonly trustedRoots: readonly Buffer[];
  /** CRLs are only asked for when `crl.pem` is among these; default: all files. */
  readonly files?: readonly FileName[];
  /** CA id → number of the CRL installed now; a lower one is refused. */
  readonly installedCrlNumbers?: Readonly<Record<string, number>>;
  /** How far a notBefore may lie in the future; default 5 minutes. */
  readonly skewMs?: number;
  /** How long a CRL must still be good for; default 1 minute. */
  readonly crlMarginMs?: number;
}

const defaultSkewMs = 5 * 60_000;
const defaultCrlMarginMs = 60_000;

/**
 * Judges a set in memory, before anything touches the disk. The servers' own checks are not enough: Apache's passes a key that
 * does not match and dies of it, SIGHUP returns 0 whatever happens.
 * @throws PreflightError
 */
export function preflight(material: Material, options: PreflightOptions): void {
  const leaf = checkPair(material);
  checkDates(leaf, options);
  const path = checkChain(material, options);
  checkContext(material);
  checkNames(leaf, options.serverNames);
  if (options.files === undefined || options.files.includes("crl.pem")) checkCrls(material, path, options);
}

/**
 * That the server can take each file as it will be.
 * @param limit bytes; undefined for none
 * @throws PreflightError naming the file and the limit
 */
export function checkSizes(files: ReadonlyMap<FileName, Buffer>, limit: number | undefined): void {
  for (const [name, data] of files) {
    if (limit === undefined || data.length <= limit) continue;
    throw new PreflightError(
      "size",
      `${name} would have ${data.length} bytes and maxFileBytes is ${limit}: the server would not take it; raise the limit if it can, or leave the file out`,
    );
  }
}

function checkPair(material: Material): X509Certificate {
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(material.leaf);
  } catch (error) {
    throw new PreflightError("leaf", `the leaf cannot be read as a certificate: ${String(error)}`, error);
  }
  if (leaf.ca) {
    throw new PreflightError("leaf", "the first certificate is a CA's: the leaf comes first, then the intermediates");
  }
  if (!isPair(material.key, leaf)) {
    throw new PreflightError("key", "the private key does not belong to the leaf: ask for a new certificate");
  }
  return leaf;
}

function isPair(key: KeyObject, leaf: X509Certificate): boolean {
  return key.type === "private" && leaf.checkPrivateKey(key);
}

function checkDates(leaf: X509Certificate, { now, skewMs = defaultSkewMs }: PreflightOptions): void {
  const clock = `the clock here says ${new Date(now).toISOString()}: if that is wrong, repair it`;
  if (leaf.validFromDate.getTime() > now + skewMs) {
    throw new PreflightError("dates", `the leaf is valid only from ${leaf.validFromDate.toISOString()}; ${clock}`);
  }
  if (leaf.validToDate.getTime() <= now) {
    throw new PreflightError("dates", `the leaf expired ${leaf.validToDate.toISOString()}; ${clock}`);
  }
}

/** The CAs above the leaf, the root last. */
function checkChain(material: Material, { now, trustedRoots }: PreflightOptions): readonly X509Certificate[] {
  const stranger = material.roots.find((root) => !trustedRoots.some((trusted) => trusted.equals(root)));
  if (stranger !== undefined) {
    throw new PreflightError(
      "roots",
      `the root ${authorityId(stranger)} is not one the agent trusts: it is not installed`,
    );
  }
  try {
    return followChain(material.leaf, material.chain, material.roots, now);
  } catch (error) {
    if (!(error instanceof ChainError)) throw error;
    throw new PreflightError(
      "chain",
      `the chain does not verify to a root of the trust bundle: ${error.message}`,
      error,
    );
  }
}

/** OpenSSL's own opinion of key, leaf and their order, as the server will have it. */
function checkContext(material: Material): void {
  try {
    const files = renderFiles(material, ["key.pem", "fullchain.pem"]);
    createSecureContext({ key: files.get("key.pem"), cert: files.get("fullchain.pem") });
  } catch (error) {
    throw new PreflightError("context", `OpenSSL does not accept key and chain for a server: ${String(error)}`, error);
  }
}

function checkNames(leaf: X509Certificate, serverNames: readonly string[]): void {
  const problem = namesProblem(leaf, serverNames);
  if (problem !== null) throw new PreflightError("names", problem);
}

/** The first name that the leaf does not cover, as a sentence; null when it covers all. */
export function namesProblem(leaf: X509Certificate, serverNames: readonly string[]): string | null {
  // RFC 9525 §6.3: names are the SAN's, never the CN.
  const covers = (name: string): boolean =>
    (isIP(name) === 0 ? leaf.checkHost(name, { subject: "never" }) : leaf.checkIP(name)) !== undefined;
  const missing = serverNames.find((name) => !covers(name));
  if (missing === undefined) return null;
  return `the leaf does not cover the probe's serverName "${missing}" (it has: ${leaf.subjectAltName ?? "none"}): have the name added to the identity, or correct the probe`;
}

function checkCrls(material: Material, path: readonly X509Certificate[], options: PreflightOptions): void {
  if (material.crls.length === 0) {
    throw new PreflightError("crl", "there is no CRL: a server with an empty crl.pem does not start");
  }
  const known = [...path, ...[...material.chain, ...material.issuers, ...material.roots].map(readAuthority)];
  const signed = material.crls.map((der, at) => ({ list: readList(der, at), by: new Set<string>() }));
  for (const { list, by } of signed) {
    for (const authority of known) if (list.verify(authority.publicKey)) by.add(authorityId(authority.raw));
    if (by.size === 0) {
      throw new PreflightError(
        "crl",
        `CRL number ${list.number} is signed by no CA of the trust bundle: it is not installed`,
      );
    }
  }
  for (const authority of path) {
    const id = authorityId(authority.raw);
    const own = signed.filter(({ by }) => by.has(id)).map(({ list }) => list);
    const newest = own.reduce<Crl | null>(
      (best, list) => (best === null || list.number > best.number ? list : best),
      null,
    );
    if (newest === null) {
      throw new PreflightError(
        "crl",
        `there is no CRL of ${id} (${authority.subject.replaceAll("\n", ", ")}): servers ask for one of each CA of the chain, the root's too, and refuse everybody otherwise`,
      );
    }
    checkFresh(id, newest, options);
  }
  checkNumbers(signed, options.installedCrlNumbers ?? {});
}

/** Only of the chain's own CAs: an old CRL of a CA that is on its way out must not keep this leaf from being renewed. */
function checkFresh(id: string, list: Crl, { now, crlMarginMs = defaultCrlMarginMs }: PreflightOptions): void {
  const clock = `the clock here says ${new Date(now).toISOString()}`;
  if (list.thisUpdate > now) {
    throw new PreflightError(
      "crl-fresh",
      `the CRL of ${id} is valid only from ${new Date(list.thisUpdate).toISOString()} and ${clock}: servers here would refuse everybody; repair the clock`,
    );
  }
  if (list.nextUpdate <= now + crlMarginMs) {
    throw new PreflightError(
      "crl-fresh",
      `the CRL of ${id} is good only until ${new Date(list.nextUpdate).toISOString()} and ${clock}: servers would refuse everybody; a newer one must be published`,
    );
  }
}

function checkNumbers(
  signed: readonly { list: Crl; by: ReadonlySet<string> }[],
  installed: Readonly<Record<string, number>>,
): void {
  for (const { list, by } of signed) {
    for (const id of by) {
      const before = installed[id];
      if (before === undefined || list.number >= before) continue;
      throw new PreflightError(
        "crl-number",
        `the CRL of ${id} has number ${list.number}, the installed one ${before}: an older CRL would un-revoke, it is not installed`,
      );
    }
  }
}

function readList(der: Buffer, at: number): Crl {
  try {
    return readCrl(der);
  } catch (error) {
    throw new PreflightError("crl", `CRL ${at + 1} cannot be read: ${String(error)}`, error);
  }
}

function readAuthority(der: Buffer): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (error) {
    throw new PreflightError("chain", `a CA certificate cannot be read: ${String(error)}`, error);
  }
}
