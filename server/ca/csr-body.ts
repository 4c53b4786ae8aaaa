import { createHash } from "node:crypto";
import { DerReader } from "@newleaf/shared/der-reader";
import { tags } from "@newleaf/shared/der";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { decodeBase64, pemDecode } from "@newleaf/shared/pem";

/** What a request asks, before anybody has checked that its key signed it. Good for telling requests apart, for nothing else. */
export interface UnverifiedBody {
  /** SHA-256 (hex) of all that is signed: the same request again has it, whatever its signature. */
  readonly hash: string;
  /** SPKI fingerprint that it claims. */
  readonly key: string;
}

/** Some microseconds, where checking the signature takes a hundred. Null when it cannot be read; `readCsr` says why. */
export function unverifiedBody(csr: string): UnverifiedBody | null {
  try {
    const der = csr.includes("-----BEGIN ")
      ? pemDecode(csr, "CERTIFICATE REQUEST")[0]
      : decodeBase64(csr, "CERTIFICATE REQUEST");
    if (der === undefined) return null;
    const body = new DerReader(der).sequence("CertificationRequest").element(tags.sequence, "certificationRequestInfo");
    const fields = new DerReader(body.content);
    fields.content(tags.integer, "version");
    fields.sequence("subject");
    const key = fingerprint(fields.element(tags.sequence, "subjectPKInfo").bytes);
    return { hash: createHash("sha256").update(body.bytes).digest("hex"), key };
  } catch {
    return null;
  }
}
