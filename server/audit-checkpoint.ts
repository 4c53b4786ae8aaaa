/**
 * Checkpoints of the audit log: the end of its chain, signed by the issuer that was active, one line of JSON each. Kept off the
 * machine they show what the chain alone cannot: an end that was cut off, a log that was written anew. Pure, like the chain itself.
 *
 * What is signed is `newleaf audit checkpoint v1`, a line feed, and the canonical JSON (RFC 8785) of the line without `signature`.
 * The first line keeps it apart from all else an issuer signs: certificates and CRLs are DER, which begins with 0x30. The signature
 * is the one certificates carry (ECDSA as DER r and s), in base64. With openssl: `openssl dgst -sha256 -verify issuer.pub -signature s text`.
 */
import { type KeyObject, X509Certificate } from "node:crypto";
import { issuerId, spkiOf } from "@newleaf/shared/fingerprint";
import { verifyBytes } from "@newleaf/shared/key-algorithm";
import { canonicalJson } from "./audit-chain.ts";
import type { Issuer } from "./ca/issuer.ts";

export interface Checkpoint {
  readonly version: 1;
  /** The newest row. */
  readonly seq: number;
  /** Its hash. */
  readonly hash: string;
  /** ISO 8601. */
  readonly at: string;
  /** Issuer id of the signer. */
  readonly issuer: string;
  /** Base64. */
  readonly signature: string;
}

export type CheckpointVerdict = "valid" | "unknown-issuer" | "bad-signature";

/** Longer lines are none of ours: an RSA-4096 signature makes about 900 characters. */
const maxLine = 16_384;
const label = "newleaf audit checkpoint v1\n";

/** A checkpoint of the chain's end, signed. `at` is milliseconds. */
export function signCheckpoint(
  end: { readonly seq: number; readonly hash: string },
  at: number,
  issuer: Pick<Issuer, "id" | "sign">,
): Checkpoint {
  const { seq, hash } = end;
  const statement = { version: 1, seq, hash, at: new Date(at).toISOString(), issuer: issuer.id } as const;
  return { ...statement, signature: issuer.sign(signedBytes(statement)).toString("base64") };
}

/** Whether one of `issuers` (by issuer id) signed it. */
export function verifyCheckpoint(checkpoint: Checkpoint, issuers: ReadonlyMap<string, KeyObject>): CheckpointVerdict {
  const key = issuers.get(checkpoint.issuer);
  if (key === undefined) return "unknown-issuer";
  const { signature, ...statement } = checkpoint;
  try {
    return verifyBytes(key, signedBytes(statement), Buffer.from(signature, "base64")) ? "valid" : "bad-signature";
  } catch {
    return "bad-signature";
  }
}

/** As it is written off the machine; without the line feed. */
export function checkpointLine({ version, seq, hash, at, issuer, signature }: Checkpoint): string {
  return JSON.stringify({ version, seq, hash, at, issuer, signature });
}

/** The checkpoint in a line of text, a syslog line with whatever before it included; null when there is none. */
export function findCheckpoint(line: string): Checkpoint | null {
  const start = line.indexOf("{");
  const end = line.lastIndexOf("}");
  if (start < 0 || end < start || line.length > maxLine) return null;
  // A syslog header may have braces of its own: what we wrote begins like this.
  const ours = line.indexOf('{"version":');
  try {
    return readCheckpoint(JSON.parse(line.slice(ours < 0 ? start : ours, end + 1)));
  } catch {
    return null;
  }
}

/** A checkpoint from what JSON gave; null when it is none. Nothing beyond its six members is let pass: it would not be signed. */
export function readCheckpoint(value: unknown): Checkpoint | null {
  if (typeof value !== "object" || value === null) return null;
  const { version, seq, hash, at, issuer, signature, ...more } = value as Readonly<Record<string, unknown>>;
  if (version !== 1 || typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1) return null;
  if (typeof hash !== "string" || !/^[0-9a-f]{64}$/.test(hash)) return null;
  if (typeof at !== "string" || Number.isNaN(Date.parse(at)) || typeof issuer !== "string") return null;
  if (typeof signature !== "string" || Object.keys(more).length > 0) return null;
  return { version, seq, hash, at, issuer, signature };
}

/** Issuer id → public key of CA certificates (DER). */
export function issuerKeys(certificates: Iterable<Uint8Array>): ReadonlyMap<string, KeyObject> {
  const keys = new Map<string, KeyObject>();
  for (const der of certificates) {
    const key = new X509Certificate(der).publicKey;
    keys.set(issuerId(spkiOf(key)), key);
  }
  return keys;
}

function signedBytes(statement: Omit<Checkpoint, "signature">): Buffer {
  return Buffer.from(label + canonicalJson(statement), "utf8");
}
