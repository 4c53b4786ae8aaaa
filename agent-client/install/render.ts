import { X509Certificate } from "node:crypto";
import { readCrl } from "@newleaf/shared/crl";
import { pemEncode } from "@newleaf/shared/pem";
import { type FileName, isPemFile, type Material, type PemFile } from "./material.ts";

/**
 * The bytes of each asked PEM file; what needs more than the material is made in outputs.ts. This is where a private key becomes PEM (PKCS#8), and nowhere else on the way to the disk.
 *
 * `fullchain.pem` is leaf first, then intermediates: nginx takes the first certificate for the key's own. `ca.pem` holds roots
 * and issuing CAs: with the roots alone nginx refuses clients that send only their leaf. `crl.pem` holds one CRL per CA:
 * OpenSSL asks for one for every CA of the chain, and refuses everybody when one is missing.
 */
export function renderFiles(material: Material, files: readonly FileName[]): Map<FileName, Buffer> {
  return new Map(files.filter(isPemFile).map((name) => [name, Buffer.from(content(material, name), "utf8")]));
}

function content(material: Material, name: PemFile): string {
  switch (name) {
    case "key.pem":
    case "tls.key":
      return keyPem(material);
    case "cert.pem":
      return certificates([material.leaf]);
    case "chain.pem":
      return certificates(material.chain);
    case "fullchain.pem":
    case "tls.crt":
      return certificates([material.leaf, ...material.chain]);
    case "ca.pem":
    case "ca.crt":
      return certificates(authoritiesOf(material));
    case "crl.pem":
      return newestPerAuthority(material.crls)
        .map((der) => pemEncode("X509 CRL", der))
        .join("");
    case "combined.pem":
      return keyPem(material) + certificates([material.leaf, ...material.chain]);
  }
}

/** What clients are verified with, each once: roots, then issuing CAs. */
export function authoritiesOf(material: Material): readonly Buffer[] {
  return distinct([...material.roots, ...material.issuers]);
}

function keyPem(material: Material): string {
  return pemEncode("PRIVATE KEY", material.key.export({ type: "pkcs8", format: "der" }));
}

function certificates(list: readonly Buffer[]): string {
  return list.map((der) => pemEncode("CERTIFICATE", new X509Certificate(der).raw)).join("");
}

function distinct(list: readonly Buffer[]): Buffer[] {
  return list.filter((der, at) => list.findIndex((other) => other.equals(der)) === at);
}

/** OpenSSL looks a CRL up by issuer name and may take a stale one when it holds two: only the newest of each CA is written. */
function newestPerAuthority(crls: readonly Buffer[]): Buffer[] {
  const newest = new Map<string, { number: number; der: Buffer }>();
  for (const der of crls) {
    const list = readCrl(der);
    const authority = `${list.issuerName.toString("hex")}/${list.authorityKeyId?.toString("hex") ?? ""}`;
    const number = list.number ?? 0;
    const known = newest.get(authority);
    if (known === undefined || known.number < number) newest.set(authority, { number, der });
  }
  return [...newest.values()].map((entry) => entry.der);
}
