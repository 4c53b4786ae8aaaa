/**
 * TLS of the listeners. The one function that builds the complete secure-context options: `setSecureContext` resets whatever is left out.
 * One of the two places where the service's key is PEM, because Node's TLS takes nothing else.
 */
import { constants } from "node:crypto";
import { pemEncode } from "@newleaf/shared/pem";
import type { Authority } from "../authority/authority.ts";
import { acceptedIssuers } from "../authority/issuers.ts";
import type { ServiceCertificate } from "../authority/service-certificate.ts";

/** Post-quantum hybrid first; P-256 and X25519 for those who lack it. */
const groups = "X25519MLKEM768:X25519:P-256:P-384";
/** TLS 1.2, where it is switched on: ECDHE and AEAD only. */
const tls12Ciphers = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
];
const tls13Ciphers = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

export interface SecureContextSettings {
  readonly key: string;
  readonly cert: string;
  readonly ca?: string[];
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
  readonly maxVersion: "TLSv1.3";
  readonly ciphers: string;
  readonly ecdhCurve: string;
  readonly honorCipherOrder: boolean;
  readonly secureOptions: number;
  readonly sessionTimeout: number;
}

/**
 * `ca` holds the self-signed twins of the accepted issuing keys: verification then ends at the issuing CA (0.7 ms a handshake
 * cheaper than up to a P-384 root), and dropping a twin distrusts its issuer. No tickets: a revoked client must not resume.
 */
export function secureContextSettings(
  authority: Authority,
  certificate: ServiceCertificate,
  { clientCertificates }: { clientCertificates: boolean },
): SecureContextSettings {
  const chain = [certificate.row.der, ...certificate.chain].map((der) => pemEncode("CERTIFICATE", der)).join("");
  const twins = acceptedIssuers(authority.issuers).flatMap((row) =>
    row.twin === null ? [] : [pemEncode("CERTIFICATE", row.twin)],
  );
  return {
    key: certificate.key.export({ type: "pkcs8", format: "pem" }).toString(),
    cert: chain,
    ...(clientCertificates ? { ca: twins } : {}),
    minVersion: authority.config.tls.minVersion,
    maxVersion: "TLSv1.3",
    ciphers: [...tls13Ciphers, ...tls12Ciphers].join(":"),
    ecdhCurve: groups,
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    sessionTimeout: 1,
  };
}
