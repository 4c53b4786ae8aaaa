import { hash } from "node:crypto";
import { bitStringOctets, DerReader } from "@newleaf/shared/der-reader";
import { tags } from "@newleaf/shared/der";

/**
 * Key identifier of RFC 7093 §2 (1): the leftmost 160 bits of the SHA-256 of the key's BIT STRING contents. RFC 5280 §4.2.1.2
 * leaves the method open; its own examples use SHA-1.
 */
export function keyIdentifier(spki: Uint8Array): Buffer {
  const reader = new DerReader(spki).sequence("subjectPublicKeyInfo");
  reader.content(tags.sequence, "algorithm");
  return hash(
    "sha256",
    bitStringOctets(reader.content(tags.bitString, "subjectPublicKey"), "subjectPublicKey"),
    "buffer",
  ).subarray(0, 20);
}
