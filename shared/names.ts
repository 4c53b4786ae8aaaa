import { domainToASCII } from "node:url";
import { DerReader } from "./der-reader.ts";
import { asciiBytes, DerError, implicit, sequence } from "./der.ts";
import { ipFromBytes, ipToBytes } from "./ip-address.ts";
import { AppError } from "./problems.ts";

export { ipFromBytes, ipToBytes };

/** The names of an identity: what its subjectAltName holds, each in its canonical spelling. */
export interface Names {
  readonly dns: readonly string[];
  readonly ip: readonly string[];
  readonly uri: readonly string[];
  readonly email: readonly string[];
}

export const noNames: Names = Object.freeze({ dns: [], ip: [], uri: [], email: [] });

/** One certificate carries no more; a larger one stops fitting into TLS stacks' buffers. */
const maxNames = 250;
const maxDnsLength = 253;
const maxUriLength = 2048;
const maxLocalPart = 64;
const identityId = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;
const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** A last label like this makes parsers take the name for an IPv4 address (WHATWG URL "ends in a number"). */
const numericLabel = /^(\d+|0x[0-9a-f]*)$/;
const uriForm = /^([A-Za-z][A-Za-z0-9+.-]*):((?:[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)$/;
const authorityForm = /^(?:([^@]*)@)?(\[[0-9A-Fa-f:.]+\]|[^:[\]@]*)(?::(\d{1,5}))?$/;
const localPart = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;

/** The id of an identity, which becomes the subject CN. */
export function isIdentityId(text: string): boolean {
  return identityId.test(text);
}

/**
 * Every name well-formed and canonical, duplicates dropped, order kept.
 * @throws AppError `request-invalid` that names the offender
 */
export function normaliseNames(names: Names): Names {
  return bounded({
    dns: unique(names.dns.map(parseDnsName)),
    ip: unique(names.ip.map(parseIpAddress)),
    uri: unique(names.uri.map(parseUri)),
    email: unique(names.email.map(parseEmail)),
  });
}

function bounded(names: Names): Names {
  if (names.dns.length + names.ip.length + names.uri.length + names.email.length > maxNames) {
    throw new AppError(
      "request-invalid",
      `More than ${maxNames} names in one certificate; divide them among identities`,
    );
  }
  return names;
}

/** All names in one list: DNS, IP, URI, e-mail. The spellings of the kinds do not overlap. */
export function allNames(names: Names): string[] {
  return [...names.dns, ...names.ip, ...names.uri, ...names.email];
}

/** The same names in the same order. */
export function identicalNames(a: Names, b: Names): boolean {
  return identical(a.dns, b.dns) && identical(a.ip, b.ip) && identical(a.uri, b.uri) && identical(a.email, b.email);
}

function identical(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, at) => name === b[at]);
}

/**
 * Lower-case DNS name of A-labels (RFC 5280 §4.2.1.6, RFC 1034 §3.5 as modified by RFC 1123); `*.` may stand leftmost.
 * @throws AppError `request-invalid`
 */
export function parseDnsName(text: string): string {
  const name = text.toLowerCase();
  const labels = name.split(".");
  const host = labels[0] === "*" ? labels.slice(1) : labels;
  const last = host.at(-1);
  if (/[^\x20-\x7e]/.test(text)) throw invalid("DNS name", text, dnsHint(text));
  if (name.length > maxDnsLength) throw invalid("DNS name", text, `it is longer than ${maxDnsLength} characters`);
  if (name.endsWith(".")) throw invalid("DNS name", text, "leave out the dot at the end");
  if (last === undefined) throw invalid("DNS name", text, "a wildcard needs a domain after it: *.claw.internal");
  if (numericLabel.test(last)) throw invalid("DNS name", text, "it looks like an IP address; give it as one");
  for (const part of host) {
    if (part.includes("*")) throw invalid("DNS name", text, "* may only stand alone, as the leftmost label");
    if (!label.test(part))
      throw invalid(
        "DNS name",
        text,
        "a label is 1 to 63 of the characters a-z, 0-9 and -, and neither begins nor ends with -",
      );
  }
  return name;
}

/**
 * Canonical text of an IPv4 or IPv6 address (RFC 5952).
 * @throws AppError `request-invalid`
 */
export function parseIpAddress(text: string): string {
  const bytes = ipToBytes(text);
  if (bytes === null)
    throw invalid(
      "IP address",
      text,
      "write four decimal numbers or an IPv6 address, without zone, port or prefix length",
    );
  const canonical = ipFromBytes(bytes);
  if (canonical === null)
    throw invalid("IP address", text, "it is an IPv4 address mapped into IPv6; write the IPv4 address");
  return canonical;
}

/**
 * Absolute ASCII URI (RFC 3986), scheme and host in lower case (RFC 5280 §7.4); a host must be a name or an address (§4.2.1.6).
 * @throws AppError `request-invalid`
 */
export function parseUri(text: string): string {
  const [, scheme, rest] = uriForm.exec(text) ?? [];
  if (text.length > maxUriLength) throw invalid("URI", text, `it is longer than ${maxUriLength} characters`);
  if (scheme === undefined || rest === undefined) {
    throw invalid("URI", text, "write an absolute URI in ASCII: spiffe://claw.internal/gateway-1");
  }
  if (!rest.startsWith("//")) return `${scheme.toLowerCase()}:${rest}`;
  const pathStart = rest.slice(2).search(/[/?#]/);
  const authority = pathStart < 0 ? rest.slice(2) : rest.slice(2, 2 + pathStart);
  const path = pathStart < 0 ? "" : rest.slice(2 + pathStart);
  const [, user, host = "", port] = authorityForm.exec(authority) ?? [];
  const prefix = user === undefined ? "" : `${user}@`;
  return `${scheme.toLowerCase()}://${prefix}${parseUriHost(host, text)}${port === undefined ? "" : `:${port}`}${path}`;
}

/**
 * `local@domain` in ASCII, the domain in lower case (RFC 5280 §4.2.1.6, §7.5).
 * @throws AppError `request-invalid`
 */
export function parseEmail(text: string): string {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, Math.max(0, at));
  const domain = text.slice(at + 1);
  if (local.length > maxLocalPart || !localPart.test(local) || domain.startsWith("*")) {
    throw invalid("e-mail address", text, "write local@domain in ASCII, without a display name");
  }
  return `${local}@${parseDnsName(domain)}`;
}

/** The context tags of GeneralName (RFC 5280 §4.2.1.6). */
const kinds = { email: 1, dns: 2, uri: 6, ip: 7 } as const;

/**
 * DER GeneralNames: the value of a subjectAltName.
 * @throws DerError when there is no name (GeneralNames is SIZE (1..MAX)) or one is not canonical
 */
export function generalNames(names: Names): Buffer {
  const parts = [
    ...names.dns.map((name) => implicit(kinds.dns, asciiBytes(name))),
    ...names.ip.map((name) => implicit(kinds.ip, requireBytes(name))),
    ...names.uri.map((name) => implicit(kinds.uri, asciiBytes(name))),
    ...names.email.map((name) => implicit(kinds.email, asciiBytes(name))),
  ];
  if (parts.length === 0) throw new DerError("GeneralNames without a name");
  return sequence(...parts);
}

/**
 * The names of a subjectAltName, each brought to its canonical spelling, duplicates dropped.
 * @throws DerError (not GeneralNames, or empty), AppError `request-invalid` (a malformed name, or a kind that Newleaf does not issue:
 * otherName, directoryName …)
 */
export function readGeneralNames(der: Uint8Array): Names {
  const outer = new DerReader(der);
  const reader = outer.sequence("GeneralNames");
  outer.end("GeneralNames");
  if (reader.done) throw new DerError("GeneralNames without a name");
  const found: Record<keyof Names, Set<string>> = { dns: new Set(), ip: new Set(), uri: new Set(), email: new Set() };
  while (!reader.done) {
    const { tag, content } = reader.any();
    if (tag === (0x80 | kinds.dns)) found.dns.add(parseDnsName(ascii(content, "DNS name")));
    else if (tag === (0x80 | kinds.ip)) found.ip.add(addressText(content));
    else if (tag === (0x80 | kinds.uri)) found.uri.add(parseUri(ascii(content, "URI")));
    else if (tag === (0x80 | kinds.email)) found.email.add(parseEmail(ascii(content, "e-mail address")));
    else throw otherKind(tag);
  }
  return bounded({ dns: [...found.dns], ip: [...found.ip], uri: [...found.uri], email: [...found.email] });
}

function otherKind(tag: number): AppError {
  const kind = otherKinds[tag & 0x1f] ?? "name of an unknown kind";
  return new AppError("request-invalid", `A ${kind} cannot be used as a name here; use DNS, IP, URI or e-mail`);
}

const otherKinds: Readonly<Record<number, string>> = {
  0: "otherName",
  3: "x400Address",
  4: "directoryName",
  5: "ediPartyName",
  8: "registeredID",
};

function ascii(content: Buffer, kind: string): string {
  const text = content.toString("latin1");
  if (/[^\x21-\x7e]/.test(text)) throw invalid(kind, text, "it contains a character that is not printable ASCII");
  return text;
}

function addressText(content: Buffer): string {
  const text = content.length === 4 || content.length === 16 ? ipFromBytes(content) : null;
  if (text === null)
    throw invalid(
      "IP address",
      content.toString("hex"),
      "it must be 4 or 16 octets, and not an IPv4 address mapped into IPv6",
    );
  return text;
}

function requireBytes(address: string): Buffer {
  const bytes = ipToBytes(address);
  if (bytes === null) throw new DerError(`${address} is not an IP address`);
  return bytes;
}

function parseUriHost(host: string, uri: string): string {
  if (host === "") throw invalid("URI", uri, "after // comes a host name or an address");
  if (host.startsWith("[")) return `[${parseIpAddress(host.slice(1, -1))}]`;
  return numericLabel.test(host.split(".").at(-1) ?? "") ? parseIpAddress(host) : parseDnsName(host);
}

function dnsHint(text: string): string {
  const ascii = domainToASCII(text);
  return ascii === "" || /[^\x21-\x7e]/.test(ascii)
    ? "it contains a character that no DNS name has"
    : `write it in its ASCII form: ${ascii.slice(0, maxDnsLength)}`;
}

function unique(list: readonly string[]): string[] {
  return [...new Set(list)];
}

function invalid(kind: string, text: string, why: string): AppError {
  return new AppError("request-invalid", `${JSON.stringify(text.slice(0, 80))} is not a usable ${kind}: ${why}`);
}
