import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemDecode } from "@newleaf/shared/pem";
import Database from "better-sqlite3";
import { createIntermediate, createTwin } from "../../server/ca/ceremony.ts";
import { readIssuerCertificate } from "../../server/ca/issuer.ts";
import { decryptPrivateKey, writePrivateKey } from "../../server/keys/private-key.ts";
import type { TestService } from "./service.ts";

export const rootPassphrase = "correct horse battery staple";

export interface SecondIssuer {
  readonly first: string;
  readonly second: string;
}

/** As after the first half of a rotation: new leaves come from another intermediate, and those of the first are still accepted. */
export async function addSecondIssuer(service: TestService): Promise<SecondIssuer> {
  const offline = join(service.dataDir, "offline");
  const rootKey = decryptPrivateKey(readFileSync(join(offline, "root.key.pem"), "utf8"), rootPassphrase);
  const [root] = pemDecode(readFileSync(join(offline, "root.pem"), "utf8"), "CERTIFICATE");
  if (root === undefined) throw new Error("the service has no root");
  const key = await generateKey("ecdsa-p256");
  const der = await createIntermediate({
    caName: "Test Lab",
    root,
    rootKey,
    key,
    now: service.clock.now(),
    publicUrl: "http://localhost:8080",
    random: randomBytes(16),
  });
  const twin = await createTwin({ certificate: der, key, random: randomBytes(16) });
  const { id, notBefore, notAfter } = readIssuerCertificate(der);
  await writePrivateKey(join(service.dataDir, "issuers", `${id}.key.pem`), key);
  const first = service.server.authority.issuers.rows.find(({ kind }) => kind === "intermediate");
  if (first === undefined) throw new Error("the service has no intermediate");

  const database = new Database(join(service.dataDir, "newleaf.db"), { timeout: 5000 });
  database.prepare("UPDATE issuers SET state = 'draining' WHERE id = ?").run(first.id);
  database
    .prepare(
      "INSERT INTO issuers (id, kind, parent, state, not_before, not_after, certificate, twin) VALUES (?, 'intermediate', ?, 'active', ?, ?, ?, ?)",
    )
    .run(id, first.parent, notBefore, notAfter, der, twin);
  database
    .prepare(
      `INSERT INTO bundles (version, created_at, roots, intermediates, cross_certificates)
       SELECT version + 1, created_at, roots, json_insert(intermediates, '$[#]', ?), cross_certificates FROM bundles ORDER BY version DESC LIMIT 1`,
    )
    .run(id);
  database.close();
  await service.restart();
  return { first: first.id, second: id };
}
