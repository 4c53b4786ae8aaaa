import { booleanValue, type DerReader, oidText } from "./der-reader.ts";
import { DerError, tags } from "./der.ts";

/** An X.509 extension, of certificates, CRLs, CRL entries and requests alike (RFC 5280 §4.1). */
export interface Extension {
  readonly id: string;
  readonly critical: boolean;
  /** What the OCTET STRING wraps. */
  readonly value: Buffer;
}

/** The next Extension; one that was seen before is refused (RFC 5280 §4.2). `seen` grows. */
export function readExtension(list: DerReader, seen: Set<string>): Extension {
  const extension = list.sequence("Extension");
  const id = oidText(extension.content(tags.oid, "extnID"));
  const flag = extension.optional(tags.boolean);
  const critical = flag !== null && booleanValue(flag, "critical");
  const value = extension.content(tags.octetString, "extnValue");
  extension.end("Extension");
  if (flag !== null && !critical)
    throw new DerError(`Extension ${id} spells out the default of critical: BER, not DER`);
  if (seen.has(id)) throw new DerError(`Extension ${id} appears twice`);
  seen.add(id);
  return { id, critical, value };
}
