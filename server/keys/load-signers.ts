import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Issuer } from "../ca/issuer.ts";
import type { IssuerRow } from "../store/issuers.ts";
import { loadIssuer } from "./load-issuer.ts";

/** The signers whose keys lie in the data directory, by issuer id. The root's does not: it is offline. */
export function loadSigners(rows: readonly IssuerRow[], dataDir: string): ReadonlyMap<string, Issuer> {
  const signers = new Map<string, Issuer>();
  for (const row of rows) {
    const file = join(dataDir, "issuers", `${row.id}.key.pem`);
    // A revoked issuer signs nothing but CRLs any more.
    const isNeeded = row.state !== "retired" || row.revokedAt != null;
    if (row.kind === "intermediate" && isNeeded && existsSync(file))
      signers.set(row.id, loadIssuer(row.certificate, file));
  }
  return signers;
}
