/**
 * Whatever was done before a backup and after it: the restored service knows it all when it has the journal, and without the journal
 * nothing that a host's CRL lists comes back to life. A real service, real requests; the histories are random.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readCrl } from "@newleaf/shared/crl";
import { AppError } from "@newleaf/shared/problems";
import Database from "better-sqlite3";
import * as fc from "fast-check";
import { call, csrFor, enrolled, type Host, newKey, renew, use } from "../support/agent-client.ts";
import { readTables } from "../support/database-tables.ts";
import { backUp, restoreFrom, startRestored } from "../support/restored.ts";
import { startService, type TestService } from "../support/service.ts";

const acts = [
  "enroll",
  "renew",
  "use",
  "revoke",
  "hold",
  "release",
  "steal",
  "compromise",
  "suspend",
  "resume",
  "token",
  "grant",
  "role",
] as const;

interface Step {
  readonly act: (typeof acts)[number];
  readonly pick: number;
}

const step: fc.Arbitrary<Step> = fc.record({ act: fc.constantFrom(...acts), pick: fc.nat({ max: 1000 }) });
const history = fc.array(step, { minLength: 12, maxLength: 30, size: "max" });

/** A service with what its hosts hold. */
interface World {
  readonly service: TestService;
  readonly hosts: Host[];
  readonly tokens: string[];
  count: number;
}

describe("restored, after any history", () => {
  it("is as it was with the journal, and un-revokes nothing without it", { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(history, history, async (before, after) => {
        const journals = mkdtempSync(join(tmpdir(), "newleaf-journal-"));
        await using service = await startService({
          NEWLEAF_JOURNAL: join(journals, "lines"),
          NEWLEAF_BACKUP_SCHEDULE: "null",
        });
        const world: World = { service, hosts: [], tokens: [], count: 0 };
        for (let first = 0; first < 3; first += 1) await perform(world, { act: "enroll", pick: 0 });
        await service.admin("POST", "/v1/operators", { id: "second@operators", role: "viewer" });
        for (const each of before) await attempt(world, each);
        const backup = await backUp(service);
        for (const each of after) await attempt(world, each);
        const crl = await newestCrl(service);
        await service.server[Symbol.asyncDispose]();
        await withJournal(world, backup, join(journals, "lines"), crl);
        await withoutJournal(world, backup, crl);
        rmSync(journals, { recursive: true });
      }),
      // Each run is a service three times over: the history as it failed is found at once, a shorter one would take minutes.
      { numRuns: Number(process.env["NEWLEAF_PROPERTY_RUNS"] ?? 1), endOnFailure: true },
    );
  });
});

/** What a restore brings back row for row. */
const same = ["blocked_keys", "certificates", "identities", "identity_names", "keys", "lineages", "revocations"];

async function withJournal(
  { service: old, tokens }: World,
  backup: string,
  journal: string,
  crl: Buffer,
): Promise<void> {
  const report = await restoreFrom(old, backup, { journal });
  assert.equal(report.incompleteBecause, null);
  const [was, is] = [readTables(join(old.dataDir, "newleaf.db")), readTables(join(report.dataDir, "newleaf.db"))];
  for (const table of same) assert.deepEqual(is.get(table), was.get(table), `the table ${table} differs`);
  const audit = new Set(is.get("audit"));
  assert.deepEqual(
    was.get("audit")?.filter((row) => !audit.has(row)),
    [],
    "the audit log goes on",
  );
  assert.equal(audit.size, (was.get("audit")?.length ?? 0) + 1);
  assertNothingOpen(report.dataDir);

  await using service = await startRestored(old, report);
  await assertNumbersRise(service, crl);
  for (const token of tokens) await assert.rejects(enrollBy(service, token), { code: "token-invalid" });
}

async function withoutJournal({ service: old, hosts, tokens }: World, backup: string, crl: Buffer): Promise<void> {
  const file = join(old.dir, "seen.crl");
  writeFileSync(file, crl);
  const report = await restoreFrom(old, backup, { crls: [file] });
  assert.equal(report.complete, false);
  assertNothingOpen(report.dataDir);
  await using service = await startRestored(old, report);
  const published = await assertNumbersRise(service, crl);
  const listed = new Map(published.revoked.map(({ serial, reason }) => [serial, reason]));
  for (const { serial } of readCrl(crl).revoked) assert.ok(listed.has(serial), `${serial} was un-revoked`);
  const { store } = service.server.authority;
  for (const host of hosts) {
    const isKnown = (await store.findCertificate(host.answer.serial)) !== null;
    const isRevoked = listed.has(host.answer.serial);
    const outcome = await use(service, host).then(
      () => "admitted",
      (error: unknown) => (error instanceof AppError ? error.code : String(error)),
    );
    if (!isKnown) assert.equal(outcome, "certificate-unknown");
    if (isRevoked) assert.notEqual(outcome, "admitted");
  }
  for (const token of tokens) await assert.rejects(enrollBy(service, token), { code: "token-invalid" });
}

function assertNothingOpen(dataDir: string): void {
  const database = new Database(join(dataDir, "newleaf.db"));
  try {
    const count = (sql: string) =>
      database
        .prepare<[number], number>(sql)
        .pluck()
        .get(Date.now() + 1000);
    assert.equal(
      count("SELECT count(*) FROM tokens WHERE spent_at IS NULL AND revoked_at IS NULL AND expires_at > ?"),
      0,
    );
    assert.equal(count("SELECT count(*) FROM requests WHERE state = 'pending' AND expires_at > ?"), 0);
    assert.equal(count("SELECT count(*) FROM grants WHERE spent_at IS NULL AND expires_at > ?"), 0);
  } finally {
    database.close();
  }
}

async function assertNumbersRise(service: TestService, seen: Buffer): Promise<ReturnType<typeof readCrl>> {
  const published = readCrl(await newestCrl(service));
  assert.ok(published.number > readCrl(seen).number, `CRL ${published.number} after ${readCrl(seen).number}`);
  return published;
}

async function attempt(world: World, next: Step): Promise<void> {
  try {
    await perform(world, next);
  } catch (error) {
    // What may not be done is refused; that is part of every history.
    if (!(error instanceof AppError)) throw error;
    assert.notEqual(error.code, "internal");
    assert.notEqual(error.code, "request-invalid", error.message);
  }
}

async function perform(world: World, { act, pick }: Step): Promise<void> {
  const { service, hosts } = world;
  const host = hosts[pick % Math.max(1, hosts.length)];
  if (act === "enroll" || host === undefined) {
    world.count += 1;
    hosts.push(await enrolled(service, `host-${world.count}`));
    return;
  }
  const { serial, identity } = host.answer;
  const revocation = `/v1/certificates/${serial}/revocation`;
  switch (act) {
    case "renew":
      hosts.push(await renew(service, host));
      return;
    case "use":
      await use(service, host);
      return;
    case "revoke":
      await service.admin("POST", revocation, { reason: "superseded" });
      return;
    case "compromise":
      await service.admin("POST", "/v1/revocations", { identity, reason: "keyCompromise" });
      return;
    case "hold":
      await service.admin("POST", revocation, { reason: "certificateHold" });
      return;
    case "release":
      await service.admin("DELETE", revocation);
      return;
    case "steal":
      await lockLineage(world, host);
      return;
    case "suspend":
      await service.admin("POST", `/v1/identities/${identity}/suspension`);
      return;
    case "resume":
      await service.admin("DELETE", `/v1/identities/${identity}/suspension`);
      return;
    case "token":
      await tokenForOpenOrSpent(world, pick);
      return;
    case "grant":
      await service.admin("POST", `/v1/identities/${identity}/recovery-grants`, { ttl: "1h" });
      return;
    case "role":
      await service.admin("PATCH", "/v1/operators/second@operators", { role: pick % 2 === 0 ? "approver" : "viewer" });
  }
}

/** Two holders of one leaf: the second one renews with the leaf that the first has left behind. */
async function lockLineage({ service, hosts }: World, host: Host): Promise<void> {
  await use(service, host);
  const next = await renew(service, host);
  hosts.push(next);
  await use(service, next);
  await assert.rejects(renew(service, host), { code: "lineage-locked" });
}

async function tokenForOpenOrSpent(world: World, pick: number): Promise<void> {
  world.count += 1;
  const token = await world.service.token(`host-${world.count}`);
  world.tokens.push(token);
  if (pick % 2 === 0) await enrollBy(world.service, token);
}

async function enrollBy(service: TestService, token: string) {
  return call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(await newKey()), token } });
}

async function newestCrl(service: TestService): Promise<Buffer> {
  const { items } = await service.admin<{ items: { id: string; kind: string }[] }>("GET", "/v1/issuers");
  const id = items.find(({ kind }) => kind === "intermediate")?.id ?? "";
  return Buffer.from(await (await fetch(`${service.urls.public}/crl/${id}.crl`)).arrayBuffer());
}
