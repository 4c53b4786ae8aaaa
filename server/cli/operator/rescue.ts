/**
 * `newleaf operator rescue`: the way back in when every operator's certificate is over, revoked or lost. Offline, on the service's host, as
 * the owner of its data directory, with the service stopped: whoever is that could read the issuing key anyway.
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { createCsr } from "@newleaf/shared/csr";
import { makeDirectory } from "@newleaf/shared/durable-file";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { isIdentityId } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import { openAuthority } from "../../app.ts";
import { auditEntry, systemCaller } from "../../authority/authority.ts";
import { chainOf } from "../../authority/issuers.ts";
import { rescueOperator } from "../../authority/inventory/operators.ts";
import { loadConfig, resolveDataDir } from "../../config.ts";
import { isFounded } from "../../data-directory.ts";
import type { Role } from "../../store/identities.ts";
import { requireOwner } from "./data-owner.ts";
import { switchToNext, writeNextKey } from "./files.ts";
import { moment } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";

export interface RescueOptions {
  readonly data?: string;
  readonly role: Role;
}

/** @throws UsageError, AppError not-permitted (another user), conflict (the service runs), not-found, issuer-unavailable */
export async function rescue(terminal: Terminal, id: string, options: RescueOptions): Promise<void> {
  if (!isIdentityId(id))
    throw new UsageError(`${id} is not an operator id: a letter or digit, then up to 63 of A-Z a-z 0-9 . _ @ -`);
  const dataDir = resolveDataDir(options.data, terminal.env);
  if (!isFounded(dataDir)) throw new AppError("not-found", `There is no certification authority in ${dataDir}`);
  requireOwner(dataDir, "newleaf operator rescue …");
  const config = loadConfig({ dataDir, env: terminal.env });
  await using stack = new AsyncDisposableStack();
  const authority = await openAuthority(stack, config, { clock: terminal.clock });
  const { username: name, uid } = userInfo();
  const caller = { ...systemCaller("rescue"), actor: "rescue" };

  // 1. The key is durable before a certificate for it is.
  const directory = join(dataDir, "operators", id);
  await makeDirectory(directory, 0o700);
  await rm(join(directory, "next"), { recursive: true, force: true });
  const key = await generateKey("ecdsa-p256");
  await writeNextKey(directory, key);

  // 2. Identity, role and certificate, recorded and audited like every other.
  const csr = pemEncode("CERTIFICATE REQUEST", createCsr({ key }));
  const hostUser = { name, uid };
  const leaf = await rescueOperator(authority, caller, { id, role: options.role, csr, hostUser }).catch(
    async (error: unknown) => {
      if (!existsSync(join(directory, "chain.pem"))) await rm(directory, { recursive: true });
      throw error;
    },
  );
  const chain = [leaf.der, ...chainOf(authority.issuers, leaf.issuerId)];

  // 3. In force in the directory; then nobody else can hold it, and there is no first use to wait for.
  await switchToNext(directory, chain.map((der) => pemEncode("CERTIFICATE", der)).join(""));
  const at = authority.clock.now();
  await authority.store.promote({
    serial: leaf.serial,
    at,
    audit: [auditEntry(caller, at, "certificate.first-used", leaf.serial, { identity: id, by: "rescue" })],
  });
  terminal.out(
    `${id} has the role ${options.role} and a new certificate until ${moment(new Date(leaf.notAfter).toISOString(), at)}: ${directory}\n` +
      `Start the service (newleaf serve --data ${dataDir}), look at the others (newleaf operator list --as ${id}), and revoke what was lost or stolen.\n`,
  );
}
