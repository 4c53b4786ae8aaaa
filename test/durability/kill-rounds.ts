/**
 * kill -9 of the service at random moments under load. Enrollments by token, renewals and first uses run without pause; at a random
 * moment the process dies. Afterwards: every certificate a client received is in the store, no serial stands twice, the audit chain
 * verifies, and the next start needs no hand. With a journal: it makes the same database again.
 */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, type KeyObject } from "node:crypto";
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { CertificateAnswer } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { requestJson } from "@newleaf/shared/http-client";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { verifyAuditChain } from "../../server/audit-chain.ts";
import { replayJournal } from "../../server/store/sqlite/journal/replay.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { assertSameTables } from "../support/database-tables.ts";
import { initDataDir, operatorId } from "../support/service.ts";
import { serve, type ServiceProcess } from "../support/service-process.ts";

interface Holder {
  readonly identity: string;
  key: KeyObject;
  answer: CertificateAnswer | null;
  /** Made before asking and kept until answered: the same request is repeated after a crash. */
  nextKey: KeyObject | null;
}

interface Received {
  readonly serial: string;
  readonly sha256: string;
}

const holders = 6;

export async function killRounds(
  rounds: number,
  { withJournal = false }: { readonly withJournal?: boolean } = {},
): Promise<{ received: number; rounds: number }> {
  const dir = await mkdtemp(join(tmpdir(), "newleaf-kill-"));
  const dataDir = join(dir, "data");
  await initDataDir(dataDir, dir);
  const journal = join(dir, "journal");
  const env = withJournal ? { NEWLEAF_JOURNAL: journal } : {};
  const database = join(dataDir, "newleaf.db");
  const copy = join(dir, "copy.db");
  if (withJournal) {
    assert.equal(await (await serve(dataDir, env)).stop(), 0);
    await copyFile(database, copy);
  }
  const fleet: Holder[] = Array.from({ length: holders }, (_, index) => ({
    identity: `agent-${index}`,
    key: newKey(),
    answer: null,
    nextKey: null,
  }));
  const received: Received[] = [];
  const roots = await readFile(join(dataDir, "roots.pem"), "utf8");
  const admin = await operatorTls(dataDir, roots);
  try {
    for (let round = 0; round < rounds; round++) {
      const service = await serve(dataDir, env);
      await Promise.all(fleet.map((holder) => ensureEnrolled(service, admin, roots, holder, received)));
      const stop = { now: false };
      const load = fleet.map((holder) => keepRenewing(service, roots, holder, received, stop));
      await sleep(30 + Math.random() * 400);
      await service.kill();
      stop.now = true;
      await Promise.all(load);
    }
    const survivor = await serve(dataDir, env);
    assert.equal(await survivor.stop(), 0, "a start after the last kill, and a clean stop");
    await assertNothingLost(dataDir, received);
    if (withJournal) {
      assert.equal(replayJournal({ database: copy, directory: journal }).stopped, null);
      assertSameTables(copy, database);
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return { received: received.length, rounds };
}

function newKey(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
}

async function operatorTls(dataDir: string, ca: string): Promise<{ ca: string; cert: string; key: string }> {
  const directory = join(dataDir, "operators", operatorId);
  return {
    ca,
    cert: await readFile(join(directory, "chain.pem"), "utf8"),
    key: await readFile(join(directory, "key.pem"), "utf8"),
  };
}

const common = { method: "POST", timeoutMs: 10_000, maxBytes: 1_000_000 } as const;

async function ensureEnrolled(
  service: ServiceProcess,
  admin: { ca: string; cert: string; key: string },
  ca: string,
  holder: Holder,
  received: Received[],
): Promise<void> {
  if (holder.answer !== null) return;
  const headers = { "X-Newleaf-Client": "test" };
  const identity = { id: holder.identity, profile: "agent" };
  await requestJson({ ...common, url: `${service.urls.admin}/v1/identities`, body: identity, headers, tls: admin });
  const token = await requestJson({
    ...common,
    url: `${service.urls.admin}/v1/tokens`,
    body: { identity: holder.identity },
    headers,
    tls: admin,
  });
  const body = { csr: csrOf(holder.key), token: (token.body as { token: string }).token };
  const answer = await requestJson({ ...common, url: `${service.urls.enrollment}/v1/enrollments`, body, tls: { ca } });
  holder.answer = answer.body as CertificateAnswer;
  note(received, holder.answer);
}

/** Until the service dies under it. */
async function keepRenewing(
  service: ServiceProcess,
  ca: string,
  holder: Holder,
  received: Received[],
  stop: { now: boolean },
): Promise<void> {
  while (!stop.now && holder.answer !== null) {
    holder.nextKey ??= newKey();
    const tls = {
      ca,
      cert: holder.answer.certificate + holder.answer.chain,
      key: holder.key.export({ type: "pkcs8", format: "pem" }).toString(),
    };
    try {
      const answer = await requestJson({
        ...common,
        url: `${service.urls.agents}/v1/renewals`,
        body: { csr: csrOf(holder.nextKey) },
        tls,
      });
      holder.answer = answer.body as CertificateAnswer;
      holder.key = holder.nextKey;
      holder.nextKey = null;
      note(received, holder.answer);
    } catch (error) {
      if (service.child.exitCode === null && service.child.signalCode === null && !stop.now && !isConnectionLoss(error))
        throw error;
      await sleep(5);
    }
  }
}

function isConnectionLoss(error: unknown): boolean {
  return error instanceof Error && error.name === "NetworkError";
}

function csrOf(key: KeyObject): string {
  return pemEncode("CERTIFICATE REQUEST", createCsr({ key }));
}

function note(received: Received[], answer: CertificateAnswer): void {
  const [der] = pemDecode(answer.certificate, "CERTIFICATE");
  received.push({
    serial: answer.serial,
    sha256: createHash("sha256")
      .update(der ?? Buffer.alloc(0))
      .digest("hex"),
  });
}

async function assertNothingLost(dataDir: string, received: readonly Received[]): Promise<void> {
  await using store = await openSqliteStore({ path: join(dataDir, "newleaf.db") });
  const bySerial = new Map<string, string>();
  for (const { serial, sha256 } of received) {
    assert.equal(bySerial.get(serial) ?? sha256, sha256, `serial ${serial} was given to two certificates`);
    bySerial.set(serial, sha256);
    const row = await store.findCertificate(serial);
    assert.ok(row !== null, `${serial} was received and is not in the store`);
    assert.equal(createHash("sha256").update(row.der).digest("hex"), sha256);
    assert.notEqual(row.state, "replaced", "an honest client's leaf was replaced");
  }
  for (const { state } of (await store.listLineages({ limit: 100 })).items)
    assert.equal(state, "active", "a crash looked like theft");
  const rows = [];
  for (let after = 0; ;) {
    const page = await store.readAuditChain(after, 5_000);
    if (page.length === 0) break;
    rows.push(...page);
    after = page.at(-1)?.seq ?? Infinity;
  }
  const verdict = verifyAuditChain(rows);
  assert.ok(verdict.ok, JSON.stringify(verdict));
}
