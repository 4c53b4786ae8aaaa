import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "./programs.ts";

/**
 * A small CA of our own for tests, made by the openssl command line: an independent hand, so that what our code judges was not
 * made by our code. Certificates and CRLs are DER; times are milliseconds since the epoch. Keys are P-256.
 */
export interface TestAuthority {
  readonly certificate: Buffer;
  readonly key: KeyObject;
  issue(options?: LeafOptions): TestLeaf;
  /** An intermediate below this CA. */
  subordinate(name: string, options?: { pathLength?: number; notAfter?: number }): TestAuthority;
  /** A certificate of this CA for another CA's name and key. */
  crossSign(other: TestAuthority): Buffer;
  crl(options?: CrlOptions): Buffer;
}

export interface LeafOptions {
  readonly commonName?: string;
  /** As openssl writes them: `DNS:gateway.test`, `IP:127.0.0.1`. Default: localhost and 127.0.0.1. */
  readonly names?: readonly string[];
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** Default: both. */
  readonly extendedKeyUsage?: readonly ("serverAuth" | "clientAuth")[];
  readonly key?: KeyObject;
  /** Further lines of the extension section, for instance `basicConstraints=CA:TRUE`. */
  readonly extensions?: readonly string[];
}

export interface TestLeaf {
  readonly certificate: Buffer;
  readonly key: KeyObject;
  /** Lower-case hex. */
  readonly serial: string;
}

export interface CrlOptions {
  readonly number?: number;
  readonly thisUpdate?: number;
  readonly nextUpdate?: number;
  /** Serials, lower-case hex. */
  readonly revoked?: readonly string[];
}

const day = 86_400_000;

/** Makes a root CA. `directory` holds openssl's files; give each test its own. */
export function makeRoot(directory: string, name = "Test Root"): TestAuthority {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const home = newHome(directory, name);
  const certificate = sign(home, { commonName: name, key: privateKey, extensions: caExtensions(null) }, "selfsign");
  return open(home, name, certificate, privateKey, directory);
}

/** Root and intermediate, as Newleaf itself has them. */
export function makeTestCa(directory: string): { root: TestAuthority; intermediate: TestAuthority } {
  const root = makeRoot(directory);
  return { root, intermediate: root.subordinate("Test Intermediate") };
}

function open(home: string, name: string, certificate: Buffer, key: KeyObject, directory: string): TestAuthority {
  writeFileSync(join(home, "ca-cert.txt"), pem("CERTIFICATE", certificate));
  writeKey(join(home, "ca-key.txt"), key);
  return {
    certificate,
    key,
    issue(options = {}) {
      const leafKey = options.key ?? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
      const names = options.names ?? ["DNS:localhost", "IP:127.0.0.1"];
      const extensions = options.extensions ?? [
        ...(names.length === 0 ? [] : [`subjectAltName=${names.join(",")}`]),
        "keyUsage=critical,digitalSignature",
        `extendedKeyUsage=${(options.extendedKeyUsage ?? ["serverAuth", "clientAuth"]).join(",")}`,
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid:always",
      ];
      const leaf = sign(home, { commonName: "gateway-1", ...options, key: leafKey, extensions });
      return { certificate: leaf, key: leafKey, serial: new X509Certificate(leaf).serialNumber.toLowerCase() };
    },
    subordinate(subordinate, options = {}) {
      const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const below = newHome(directory, subordinate);
      const extensions = [...caExtensions(options.pathLength ?? 0), "authorityKeyIdentifier=keyid:always"];
      const notAfter = options.notAfter === undefined ? {} : { notAfter: options.notAfter };
      const made = sign(home, { commonName: subordinate, key: privateKey, extensions, ...notAfter });
      return open(below, subordinate, made, privateKey, directory);
    },
    crossSign(other) {
      const commonName = /^CN=(.*)$/m.exec(new X509Certificate(other.certificate).subject)?.[1] ?? name;
      const extensions = [...caExtensions(null), "authorityKeyIdentifier=keyid:always"];
      return sign(home, { commonName, key: other.key, extensions });
    },
    crl: (options = {}) => makeCrl(home, options),
  };
}

function caExtensions(pathLength: number | null): string[] {
  return [
    `basicConstraints=critical,CA:TRUE${pathLength === null ? "" : `,pathlen:${pathLength}`}`,
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
  ];
}

function newHome(directory: string, name: string): string {
  const home = join(directory, `ca-${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  return home;
}

/** `openssl ca`, because `openssl x509` 3.0 cannot set dates. Its database starts empty each time: nothing here looks at it. */
function sign(home: string, options: LeafOptions & { key: KeyObject }, ...flags: readonly "selfsign"[]): Buffer {
  const now = Date.now();
  const request = join(home, "request.txt");
  const key = flags.includes("selfsign") ? join(home, "ca-key.txt") : join(home, "request-key.txt");
  writeKey(key, options.key);
  writeConfig(home, options.extensions ?? []);
  writeFileSync(join(home, "index.txt"), "");
  const config = join(home, "openssl.cnf");
  openssl("req", "-new", "-config", config, "-key", key, "-subj", `/CN=${options.commonName ?? "x"}`, "-out", request);
  const dates = [
    "-startdate",
    asn1Time(options.notBefore ?? now - 300_000),
    "-enddate",
    asn1Time(options.notAfter ?? now + 30 * day),
  ];
  const self = flags.includes("selfsign") ? ["-selfsign"] : [];
  const out = join(home, "issued.txt");
  openssl("ca", "-batch", "-notext", "-config", config, "-in", request, ...dates, ...self, "-out", out);
  return Buffer.from(new X509Certificate(readFileSync(out)).raw);
}

function makeCrl(home: string, options: CrlOptions): Buffer {
  const now = Date.now();
  writeConfig(home, []);
  const lines = (options.revoked ?? []).map(
    (serial) => `R\t${utcTime(now + day)}\t${utcTime(now)}\t${hex(serial)}\tunknown\t/CN=x\n`,
  );
  writeFileSync(join(home, "index.txt"), lines.join(""));
  writeFileSync(join(home, "crlnumber.txt"), `${hex((options.number ?? 1).toString(16))}\n`);
  const out = join(home, "crl.txt");
  const dates = [
    "-crl_lastupdate",
    asn1Time(options.thisUpdate ?? now - 60_000),
    "-crl_nextupdate",
    asn1Time(options.nextUpdate ?? now + 14 * day),
  ];
  openssl("ca", "-gencrl", "-config", join(home, "openssl.cnf"), ...dates, "-out", out);
  return openssl("crl", "-in", out, "-outform", "DER");
}

function writeConfig(home: string, extensions: readonly string[]): void {
  const lines = [
    "[req]",
    "distinguished_name = dn",
    "[dn]",
    "[ca]",
    "default_ca = this",
    "[this]",
    `database = ${join(home, "index.txt")}`,
    `new_certs_dir = ${home}`,
    `certificate = ${join(home, "ca-cert.txt")}`,
    `private_key = ${join(home, "ca-key.txt")}`,
    `crlnumber = ${join(home, "crlnumber.txt")}`,
    "rand_serial = yes",
    "unique_subject = no",
    "default_md = sha256",
    "policy = any",
    "x509_extensions = issued",
    "crl_extensions = list",
    "[any]",
    "commonName = supplied",
    "[list]",
    "authorityKeyIdentifier = keyid:always",
    "[issued]",
    ...extensions,
  ];
  writeFileSync(join(home, "openssl.cnf"), `${lines.join("\n")}\n`);
}

function writeKey(path: string, key: KeyObject): void {
  writeFileSync(path, key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
}

/** A key as openssl and servers read it, for tests that write their own files. */
export function keyPem(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}

export function certificatePem(...certificates: readonly Buffer[]): string {
  return certificates.map((der) => pem("CERTIFICATE", der)).join("");
}

export function crlPem(...crls: readonly Buffer[]): string {
  return crls.map((der) => pem("X509 CRL", der)).join("");
}

/** The same key as another object, as if read from a file. */
export function reread(key: KeyObject): KeyObject {
  return createPrivateKey(keyPem(key));
}

function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString("base64").replaceAll(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;
}

function openssl(...args: readonly string[]): Buffer {
  return execFileSync(findProgram("openssl") ?? "openssl", args, { stdio: ["ignore", "pipe", "pipe"] });
}

/** `20261120103000Z` */
function asn1Time(at: number): string {
  return `${new Date(at).toISOString().replaceAll(/[-:T]|\.\d+Z/g, "")}Z`;
}

function utcTime(at: number): string {
  return asn1Time(at).slice(2);
}

function hex(digits: string): string {
  return digits.length % 2 === 0 ? digits.toUpperCase() : `0${digits}`.toUpperCase();
}
