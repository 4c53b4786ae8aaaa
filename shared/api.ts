/** Paths and bodies of the wire, as the agent and the service both see them. Times are ISO 8601 in UTC, serials lower-case hex. */
export const paths = {
  enrollments: "/v1/enrollments",
  enrollment: (id: string): string => `/v1/enrollments/${encodeURIComponent(id)}`,
  renewals: "/v1/renewals",
  renewalWindow: "/v1/renewal-window",
  reports: "/v1/reports",
  changes: "/v1/changes",
  bundle: "/v1/bundle",
  roots: "/roots.pem",
  issuer: (id: string): string => `/issuers/${id}.crt`,
  crl: (id: string): string => `/crl/${id}.crl`,
} as const;

export const mediaTypes = {
  json: "application/json",
  problem: "application/problem+json",
  pemChain: "application/pem-certificate-chain",
  certificate: "application/pkix-cert",
  crl: "application/pkix-crl",
  pemFile: "application/x-pem-file",
} as const;

/** When the service wants a leaf renewed. */
export interface RenewalPeriod {
  readonly start: string;
  readonly end: string;
}

/** Answer to a successful enrollment (201), renewal (201, or 200 the same again) and poll (200). */
export interface CertificateAnswer {
  readonly identity: string;
  readonly serial: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly lineage: string;
  readonly generation: number;
  /** PEM of the leaf. */
  readonly certificate: string;
  /** PEM of the intermediates, leaf's issuer first, no root. */
  readonly chain: string;
  readonly bundleVersion: number;
  readonly renewal: RenewalPeriod;
}

export interface EnrollmentRequest {
  /** PEM or base64 DER of a PKCS#10 request. */
  readonly csr: string;
  readonly token?: string;
  /** A hint for the operator who decides; never a decision. */
  readonly claim?: string;
}

/** Answer 202: the request waits for an operator. */
export interface PendingAnswer {
  readonly id: string;
  readonly state: "pending";
  /** SPKI fingerprint of the request's key. */
  readonly fingerprint: string;
  /** Path to ask again. */
  readonly poll: string;
}

export interface RenewalWindow extends RenewalPeriod {
  readonly reason: string;
}

export interface ServedReport {
  readonly address: string;
  readonly serverName: string;
  /** `sha256:…` over the DER of the leaf that was presented. */
  readonly fingerprint: string;
  readonly at: string;
}

export interface CertificateReport {
  readonly name: string;
  /** `sha256:…` of the leaf on disk, or null when nothing is installed. */
  readonly installed: string | null;
  readonly nextFingerprint?: string;
  readonly served: readonly ServedReport[];
}

export interface AgentReport {
  readonly certificates: readonly CertificateReport[];
  readonly bundleVersion: number;
  /** Issuer id → number of the CRL in force on the host. */
  readonly crls: Readonly<Record<string, number>>;
  /** The agent's clock when it wrote the report. */
  readonly clock: string;
  readonly failure?: { readonly step: string; readonly message: string; readonly at: string };
}

export interface ChangesAnswer {
  readonly cursor: string;
  readonly bundleVersion: number;
  readonly crls: Readonly<Record<string, number>>;
  readonly renewal: RenewalWindow;
}

export interface BundleIssuer {
  readonly id: string;
  /** PEM. */
  readonly certificate: string;
}

export interface BundleCrl {
  readonly issuer: string;
  readonly url: string;
  readonly number: number;
  readonly thisUpdate: string;
  readonly nextUpdate: string;
}

export interface Bundle {
  /** Only ever rises. */
  readonly version: number;
  /** PEM each. */
  readonly roots: readonly string[];
  readonly crossCertificates: readonly string[];
  /** Issuing CAs that leaves in force may chain to. */
  readonly issuers: readonly BundleIssuer[];
  /** One for every CA of every chain, the roots' too. */
  readonly crls: readonly BundleCrl[];
}

/** Reasons an operator may give (RFC 5280 §5.3.1). removeFromCRL and aACompromise mean nothing here; cACompromise is not for leaves. */
export const revocationReasons = [
  "unspecified",
  "keyCompromise",
  "affiliationChanged",
  "superseded",
  "cessationOfOperation",
  "certificateHold",
  "privilegeWithdrawn",
] as const;

/** Reasons for an issuing CA. A hold makes no sense for one: a CRL of its parent takes it back for good. */
export const issuerRevocationReasons = [
  "unspecified",
  "cACompromise",
  "keyCompromise",
  "affiliationChanged",
  "superseded",
  "cessationOfOperation",
  "privilegeWithdrawn",
] as const;
