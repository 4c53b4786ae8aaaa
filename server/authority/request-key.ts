import { readCsr } from "../ca/csr.ts";

/**
 * SPKI fingerprint of the key in a PKCS#10 request (PEM or DER), whose own signature is checked.
 * @throws AppError csr-malformed, csr-signature-invalid, key-not-acceptable
 */
export function keyOfRequest(csr: Uint8Array): string {
  return readCsr(csr).key;
}
