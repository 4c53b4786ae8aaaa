/** A fleet to renew: a data directory made by `newleaf init`, its identities with a current leaf each, and for each a request with a new key. */
import { open, writeFile } from "node:fs/promises";
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { createCsr } from "@newleaf/shared/csr";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { noNames } from "@newleaf/shared/names";
import { pemEncode } from "@newleaf/shared/pem";
import { pino } from "pino";
import { startServer } from "../../server/app.ts";
import { auditEntry, systemCaller, type Authority } from "../../server/authority/authority.ts";
import { beginLineage } from "../../server/authority/enrollment/enroll.ts";
import { chainOf } from "../../server/authority/issuers.ts";
import { issueServiceCertificate } from "../../server/authority/service-certificate.ts";
import { readCsr } from "../../server/ca/csr.ts";
import { loadConfig } from "../../server/config.ts";
import { secureContextSettings, type SecureContextSettings } from "../../server/http/tls.ts";
import type { IdentityEntry } from "../../server/store/identities.ts";
import { initDataDir } from "../support/service.ts";

export interface Fleet {
  readonly dataDir: string;
  readonly size: number;
  /** Leaf, key and request of each: the load generator's input (load.c says how). */
  readonly tuplesFile: string;
  /** DER of the intermediate. */
  readonly chainFile: string;
  /** What the service's agents listener uses, for a server that does nothing but the handshake. */
  readonly tls: SecureContextSettings;
}

const defaultBatch = 500;
const caller = systemCaller("bench");
const anyPorts = Object.fromEntries(
  ["AGENTS", "ENROLLMENT", "ADMIN", "PUBLIC", "OPS"].map((name) => [`NEWLEAF_LISTEN_${name}`, "127.0.0.1:0"]),
);

/** `beforeBatch` may move the clock. Through the service's own code: inventory, issuance and first use are the rows a real fleet would have left. */
export async function makeFleet(
  dir: string,
  size: number,
  options: { readonly batch?: number; readonly beforeBatch?: (first: number) => void } = {},
): Promise<Fleet> {
  const batch = options.batch ?? defaultBatch;
  const dataDir = join(dir, "data");
  await initDataDir(dataDir, dir);
  const config = loadConfig({ dataDir, env: anyPorts });
  await using server = await startServer(config, { log: pino({ level: "silent" }) });
  const { authority } = server;
  const tuplesFile = join(dir, "tuples");
  const certificate = await issueServiceCertificate(authority);
  const chainFile = join(dir, "chain.der");
  await writeFile(chainFile, chainOf(authority.issuers, certificate.row.issuerId)[0] ?? "");
  await using file = await open(tuplesFile, "wx", 0o600);
  for (let first = 0; first < size; first += batch) {
    options.beforeBatch?.(first);
    const entries = Array.from({ length: Math.min(batch, size - first) }, (_, index) => entryOf(first + index));
    await addAll(authority, entries);
    const tuples = await Promise.all(entries.map((entry) => enrolled(authority, entry)));
    await file.write(Buffer.concat(tuples));
  }
  const tls = secureContextSettings(authority, certificate, { clientCertificates: true });
  return { dataDir, size, tuplesFile, chainFile, tls };
}

function entryOf(index: number): IdentityEntry {
  const dns = [`gateway-${index}.bench.claw.internal`];
  const ip = [`10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`];
  return { id: `gateway-${index}`, profile: "gateway", names: { ...noNames, dns, ip }, keys: [], labels: {} };
}

async function addAll(authority: Authority, entries: readonly IdentityEntry[]): Promise<void> {
  const now = authority.clock.now();
  const changes = entries.map((entry) => ({ kind: "add" as const, entry }));
  const audit = entries.map(({ id }) => auditEntry(caller, now, "identity.added", id));
  await authority.store.changeInventory(changes, now, audit);
}

/** Enrolls and uses the leaf once; answers the tuple for its renewal. */
async function enrolled(authority: Authority, { id }: IdentityEntry): Promise<Buffer> {
  const [key, nextKey] = await Promise.all([generateKey("ecdsa-p256"), generateKey("ecdsa-p256")]);
  const identity = await authority.store.findIdentity(id);
  if (identity === null) throw new Error(`${id} was not added`);
  const csr = readCsr(csrOf(key));
  const leaf = await beginLineage(authority, caller, { csr, identity, kind: "enrollment", spends: {}, facts: {} });
  const at = authority.clock.now();
  await authority.store.promote({
    serial: leaf.serial,
    at,
    audit: [auditEntry(caller, at, "certificate.first-used", leaf.serial)],
  });
  const body = Buffer.from(JSON.stringify({ csr: csrOf(nextKey) }));
  return Buffer.concat([leaf.der, key.export({ type: "sec1", format: "der" }), body].flatMap(withLength));
}

/** As the agent asks: no names, the inventory knows them. */
function csrOf(key: KeyObject): string {
  return pemEncode("CERTIFICATE REQUEST", createCsr({ key }));
}

function withLength(bytes: Uint8Array): Uint8Array[] {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return [length, bytes];
}
