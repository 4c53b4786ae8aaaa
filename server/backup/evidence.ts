/** CRLs that hosts or verifiers hold: what they list was revoked, and what they are numbered was seen, whatever a backup says. */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Crl, readCrl, type RevokedEntry } from "@newleaf/shared/crl";
import { pemDecode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import type { CrlRecord, IssuerRow } from "../store/issuers.ts";
import type { RevocationReason, RevocationRecord } from "../store/revocations.ts";
import type { Store } from "../store/store.ts";

export interface Evidence extends CrlRecord {
  readonly file: string;
  readonly entries: readonly RevokedEntry[];
}

/**
 * Reads CRLs, DER or PEM with one or more (an agent's crl.pem has one for each CA).
 * @throws AppError conflict when one cannot be read or none of our issuers signed it: it would prove nothing
 */
export async function readEvidence(
  files: readonly string[],
  issuers: readonly IssuerRow[],
): Promise<readonly Evidence[]> {
  const evidence: Evidence[] = [];
  for (const file of files) {
    for (const der of await readDers(file)) {
      const crl = parse(file, der);
      const issuer = issuers.find((row) => crl.verify(new X509Certificate(row.certificate).publicKey));
      if (issuer === undefined) {
        throw new AppError(
          "conflict",
          `${file} holds CRL ${crl.number}, which none of this authority's issuers signed: it proves nothing. Leave it out`,
        );
      }
      const { number, thisUpdate, nextUpdate, revoked } = crl;
      evidence.push({ file, issuerId: issuer.id, number, thisUpdate, nextUpdate, der, entries: revoked });
    }
  }
  return evidence;
}

export interface Lesson {
  /** New, or graver than what the store has. */
  readonly revocations: readonly RevocationRecord[];
  /** Keys of those that were compromised, where the leaf is known. */
  readonly blockKeys: readonly string[];
  /** Among them, serials of which the store has no certificate. */
  readonly unknown: number;
}

/** What the store did not know. */
export async function learn(
  store: Pick<Store, "findCertificate" | "listRevocations">,
  evidence: readonly Evidence[],
  issuers: readonly IssuerRow[],
): Promise<Lesson> {
  const revocations = new Map<string, RevocationRecord>();
  const blockKeys = new Set<string>();
  let unknown = 0;
  for (const issuer of issuers) {
    const known = new Map((await store.listRevocations(issuer.id)).map((row) => [row.serial, row.reason]));
    for (const { entries } of evidence.filter(({ issuerId }) => issuerId === issuer.id)) {
      for (const entry of entries) {
        const reason = reasonOf(entry.reason);
        if (!isGraver(reason, known.get(entry.serial))) continue;
        const leaf = await store.findCertificate(entry.serial);
        if (leaf === null && !known.has(entry.serial)) unknown += 1;
        known.set(entry.serial, reason);
        revocations.set(`${issuer.id} ${entry.serial}`, {
          issuerId: issuer.id,
          serial: entry.serial,
          reason,
          revokedAt: leaf?.revokedAt ?? entry.revokedAt,
          // When an unknown one ends is not known: no later than its issuer.
          notAfter: leaf?.notAfter ?? issuer.notAfter,
        });
        if (reason === "keyCompromise" && leaf !== null) blockKeys.add(leaf.key);
      }
    }
  }
  return { revocations: [...revocations.values()], blockKeys: [...blockKeys], unknown };
}

/** As the service itself lets reasons change: any over none, final over a hold, compromise over anything. */
function isGraver(found: RevocationReason, known: RevocationReason | undefined): boolean {
  if (known === undefined) return true;
  if (known === found || known === "keyCompromise" || found === "certificateHold") return false;
  return known === "certificateHold" || found === "keyCompromise";
}

const reasons: Readonly<Record<string, RevocationReason>> = {
  keyCompromise: "keyCompromise",
  cACompromise: "cACompromise",
  affiliationChanged: "affiliationChanged",
  superseded: "superseded",
  cessationOfOperation: "cessationOfOperation",
  certificateHold: "certificateHold",
  privilegeWithdrawn: "privilegeWithdrawn",
};

function reasonOf(text: string | null): RevocationReason {
  return reasons[text ?? ""] ?? "unspecified";
}

async function readDers(file: string): Promise<readonly Buffer[]> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new AppError("not-found", `${file} cannot be read (${(cause as NodeJS.ErrnoException).code ?? "error"})`, {
      cause,
    });
  }
  if (!bytes.subarray(0, 4096).includes("-----BEGIN")) return [bytes];
  try {
    return pemDecode(bytes.toString("latin1"), "X509 CRL");
  } catch (cause) {
    throw new AppError("conflict", `${file} is no CRL in PEM or DER`, { cause });
  }
}

function parse(file: string, der: Buffer): Crl {
  try {
    return readCrl(der);
  } catch (cause) {
    throw new AppError("conflict", `${file} is no CRL in PEM or DER: ${cause instanceof Error ? cause.message : ""}`, {
      cause,
    });
  }
}
