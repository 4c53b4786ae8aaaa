import { oid } from "@newleaf/shared/der";

/** Extensions of certificates (RFC 5280 §4.2), dotted as a reader finds them. */
export const extensions = {
  authorityKeyId: "2.5.29.35",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  crlDistributionPoints: "2.5.29.31",
  extendedKeyUsage: "2.5.29.37",
  authorityInfoAccess: "1.3.6.1.5.5.7.1.1",
} as const;

/** Key purposes (RFC 5280 §4.2.1.12). */
export const keyPurposes = { serverAuth: "1.3.6.1.5.5.7.3.1", clientAuth: "1.3.6.1.5.5.7.3.2" } as const;

/** Bits of KeyUsage (RFC 5280 §4.2.1.3). */
export const keyUsageBits = { digitalSignature: 0, keyEncipherment: 2, keyCertSign: 5, cRLSign: 6 } as const;

export const caIssuers = "1.3.6.1.5.5.7.48.2";
export const commonName = "2.5.4.3";

/** Encoded once; leaves are made thousands of times a second. */
export const encoded = {
  authorityKeyId: oid(extensions.authorityKeyId),
  subjectKeyId: oid(extensions.subjectKeyId),
  keyUsage: oid(extensions.keyUsage),
  subjectAltName: oid(extensions.subjectAltName),
  crlDistributionPoints: oid(extensions.crlDistributionPoints),
  extendedKeyUsage: oid(extensions.extendedKeyUsage),
  authorityInfoAccess: oid(extensions.authorityInfoAccess),
  serverAuth: oid(keyPurposes.serverAuth),
  clientAuth: oid(keyPurposes.clientAuth),
  caIssuers: oid(caIssuers),
  commonName: oid(commonName),
} as const;
