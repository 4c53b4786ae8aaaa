/** A service, a backup, more acts, the disk gone: what the restored service knows, with the journal and without. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { readCrl } from "@newleaf/shared/crl";
import { verifyAuditChain } from "../../../../server/audit-chain.ts";
import type { RestoreReport } from "../../../../server/backup/restore.ts";
import { call, csrFor, enrolled, type Host, newKey, renew, settled, use } from "../../../support/agent-client.ts";
import { backUp, restoreFrom, startRestored } from "../../../support/restored.ts";
import { startService, type TestService } from "../../../support/service.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

interface Story extends AsyncDisposable {
  readonly old: TestService;
  readonly journal: string;
  readonly backup: string;
  readonly hosts: Readonly<Record<"revoked" | "renewed" | "renewedOld" | "suspended" | "late" | "kept", Host>>;
  /** Handed out before the backup and never used; and one that was spent after it. */
  readonly openToken: string;
  readonly spentToken: string;
  readonly crl: Buffer;
  readonly crlNumber: number;
  readonly bundleVersion: number;
}

async function play(journal: string): Promise<Story> {
  const old = await startService({ NEWLEAF_JOURNAL: journal });
  const revoked = await settled(old, "revoked");
  const renewedOld = await settled(old, "renewed");
  const suspended = await settled(old, "suspended");
  const kept = await settled(old, "kept");
  const openToken = await old.token("open");
  const spentToken = await old.token("spent");

  const backup = await backUp(old);

  await old.admin("POST", `/v1/certificates/${revoked.answer.serial}/revocation`, { reason: "keyCompromise" });
  const renewed = await renew(old, renewedOld);
  await use(old, renewed);
  await old.admin("POST", "/v1/identities/suspended/suspension");
  await call(old, "enrollment", "POST", "/v1/enrollments", {
    body: { csr: csrFor(await newKey()), token: spentToken },
  });
  const late = await settled(old, "late");
  const [issuer] = (await old.admin<{ items: { id: string; kind: string }[] }>("GET", "/v1/issuers")).items.filter(
    ({ kind }) => kind === "intermediate",
  );
  const crl = await crlOf(old, issuer?.id ?? "");
  const bundle = await call(old, "enrollment", "GET", "/v1/bundle");
  const bundleVersion = (bundle.body as { version: number }).version;
  await old.server[Symbol.asyncDispose]();
  return {
    old,
    journal,
    backup,
    hosts: { revoked, renewed, renewedOld, suspended, late, kept },
    openToken,
    spentToken,
    crl,
    crlNumber: readCrl(crl).number,
    bundleVersion,
    async [Symbol.asyncDispose]() {
      await old[Symbol.asyncDispose]();
    },
  };
}

async function crlOf(service: TestService, issuer: string): Promise<Buffer> {
  const answer = await fetch(`${service.urls.public}/crl/${issuer}.crl`);
  return Buffer.from(await answer.arrayBuffer());
}

async function newestCrl(service: TestService): Promise<ReturnType<typeof readCrl>> {
  const { items } = await service.admin<{ items: { id: string; kind: string }[] }>("GET", "/v1/issuers");
  return readCrl(await crlOf(service, items.find(({ kind }) => kind === "intermediate")?.id ?? ""));
}

function enrollBy(service: TestService, token: string, key: Awaited<ReturnType<typeof newKey>>) {
  return call(service, "enrollment", "POST", "/v1/enrollments", { body: { csr: csrFor(key), token } });
}

describe("a service put back from a backup", () => {
  const journal = join(temporaryDirectory("journal"), "lines");
  let story: Story;
  before(async () => {
    story = await play(journal);
  });
  after(() => story[Symbol.asyncDispose]());

  describe("with its journal", () => {
    let report: RestoreReport;
    let service: TestService;
    before(async () => {
      report = await restoreFrom(story.old, story.backup, { journal: story.journal });
      // It goes on where the service that was left off.
      service = await startRestored(story.old, report, { NEWLEAF_JOURNAL: story.journal });
    });
    after(() => service[Symbol.asyncDispose]());

    it("knows everything that happened after the backup", async () => {
      const { hosts } = story;
      assert.deepEqual([report.complete, report.incompleteBecause], [true, null]);
      assert.ok((report.journal?.lines ?? 0) >= 6, `${report.journal?.lines} lines`);
      await assert.rejects(use(service, hosts.revoked), { code: "certificate-revoked" });
      await assert.rejects(use(service, hosts.suspended), { code: "identity-suspended" });
      for (const host of [hosts.renewed, hosts.late, hosts.kept]) assert.equal((await use(service, host)).status, 200);
      await assert.rejects(renew(service, hosts.renewedOld), { code: "lineage-locked" });
    });

    it("publishes a CRL at once, numbered above any before, that lists everything", async () => {
      const crl = await newestCrl(service);
      assert.ok(crl.number > story.crlNumber, `${crl.number}`);
      const listed = new Map(crl.revoked.map(({ serial, reason }) => [serial, reason]));
      assert.equal(listed.get(story.hosts.revoked.answer.serial), "keyCompromise");
      const bundle = await call(service, "enrollment", "GET", "/v1/bundle");
      assert.ok((bundle.body as { version: number }).version > story.bundleVersion);
    });

    it("gives nothing for tokens of before, spent or open, nor for a key that was compromised", async () => {
      assert.ok(report.voided.tokens >= 1);
      for (const token of [story.openToken, story.spentToken])
        await assert.rejects(enrollBy(service, token, await newKey()), { code: "token-invalid" });
      const fresh = await service.token("revoked");
      await assert.rejects(enrollBy(service, fresh, story.hosts.revoked.key), { code: "key-blocked" });
    });

    it("says in its audit log and in its log what was done", async () => {
      const { items } = await service.admin<{ items: { detail: Record<string, unknown> }[] }>(
        "GET",
        "/v1/audit?action=store.restored",
      );
      assert.equal(items.length, 1);
      assert.equal(items[0]?.detail["complete"], true);
      assert.ok(verifyAuditChain(await service.server.authority.store.readAuditChain(0, 100_000)).ok);
      assert.ok(service.log.some(({ msg }) => String(msg).includes("restored from a backup")));
    });
  });

  describe("without its journal, with the CRL that a host holds", () => {
    let report: RestoreReport;
    let service: TestService;
    before(async () => {
      const file = join(story.old.dir, "crl.der");
      writeFileSync(file, story.crl);
      report = await restoreFrom(story.old, story.backup, { crls: [file] });
      service = await startRestored(story.old, report);
    });
    after(() => service[Symbol.asyncDispose]());

    it("revokes what the CRL lists, and numbers its own above it", async () => {
      assert.equal(report.complete, false);
      assert.ok(report.revoked >= 1);
      await assert.rejects(use(service, story.hosts.revoked), { code: "certificate-revoked" });
      const crl = await newestCrl(service);
      assert.ok(crl.number > story.crlNumber + 100_000, `${crl.number}`);
      const before = readCrl(story.crl).revoked.map(({ serial }) => serial);
      const listed = new Set(crl.revoked.map(({ serial }) => serial));
      assert.deepEqual(
        before.filter((serial) => !listed.has(serial)),
        [],
      );
      const fresh = await service.token("revoked");
      await assert.rejects(enrollBy(service, fresh, story.hosts.revoked.key), { code: "key-blocked" });
    });

    it("refuses leaves it cannot vouch for until an operator decides", async () => {
      const { late, renewed } = story.hosts;
      for (const host of [late, renewed]) await assert.rejects(use(service, host), { code: "certificate-unknown" });
      const listed = await service.admin<{ items: { serial: string; identity: string; state: string }[] }>(
        "GET",
        "/v1/unvouched?state=open",
      );
      const seen = Object.fromEntries(listed.items.map(({ serial, identity }) => [serial, identity]));
      assert.deepEqual(seen, { [late.answer.serial]: "late", [renewed.answer.serial]: "renewed" });

      await assert.rejects(service.admin("POST", `/v1/unvouched/${late.answer.serial}/adoption`), {
        code: "identity-unknown",
      });
      await service.admin("POST", `/v1/unvouched/${late.answer.serial}/revocation`, { reason: "superseded" });
      assert.ok((await newestCrl(service)).revoked.some(({ serial }) => serial === late.answer.serial));
      await assert.rejects(service.admin("POST", `/v1/unvouched/${late.answer.serial}/adoption`), { code: "conflict" });

      await service.admin("POST", `/v1/unvouched/${renewed.answer.serial}/adoption`);
      assert.equal((await use(service, renewed)).status, 200);
      const next = await renew(service, renewed);
      assert.equal((await use(service, next)).status, 200);
      await assert.rejects(renew(service, story.hosts.renewedOld), { code: "lineage-locked" });
    });

    it("admits by no token of before", async () => {
      for (const token of [story.openToken, story.spentToken])
        await assert.rejects(enrollBy(service, token, await newKey()), { code: "token-invalid" });
      const host = await enrolled(service, "fresh");
      assert.equal((await use(service, host)).status, 200);
    });
  });

  it("is not put back when its journal is forgotten by mistake", async () => {
    await assert.rejects(restoreFrom(story.old, story.backup, { isJournalLost: false }), /--journal/);
  });

  it("is not complete when a host has seen more than the journal tells", async () => {
    const copy = join(mkdtempSync(join(story.old.dir, "journal-")), "lines");
    cpSync(story.journal, copy, { recursive: true });
    const file = join(story.old.dir, "newest.crl");
    writeFileSync(file, story.crl);
    // The segment with the revocation; what the restored service of before wrote behind it is not of this story.
    const segments = readdirSync(copy)
      .toSorted()
      .map((name) => join(copy, name));
    const told = segments.findIndex((path) => readFileSync(path, "utf8").includes("keyCompromise"));
    const last = segments[told] ?? "";
    for (const path of segments.slice(told + 1)) rmSync(path);
    const lines = readFileSync(last, "utf8").split("\n");
    const uptoRevocation = lines.findIndex((line) => line.includes("keyCompromise"));
    writeFileSync(last, `${lines.slice(0, uptoRevocation).join("\n")}\n`);
    const report = await restoreFrom(story.old, story.backup, { journal: copy, crls: [file] });
    assert.deepEqual([report.complete, report.revoked], [false, 1]);
    assert.match(report.incompleteBecause ?? "", /the journal is not the newest/);

    writeFileSync(last, lines.map((line) => line.replace("keyCompromise", "superseded....")).join("\n"));
    const damaged = await restoreFrom(story.old, story.backup, { journal: copy, crls: [file] });
    assert.equal(damaged.complete, false);
    assert.match(damaged.incompleteBecause ?? "", /hash/);
  });

  it("does not follow another journal", async () => {
    const lines = join(mkdtempSync(join(story.old.dir, "foreign-")), "lines");
    await using other = await startService({ NEWLEAF_JOURNAL: lines });
    await other.token("somebody");
    // While a service writes there, the end of its journal is a moving one.
    await assert.rejects(restoreFrom(story.old, story.backup, { journal: lines }), /Another process writes/);
    await other.server[Symbol.asyncDispose]();
    const refused = await restoreFrom(story.old, story.backup, { journal: lines }).then(
      ({ incompleteBecause }) => incompleteBecause,
      (error: unknown) => String(error),
    );
    assert.match(refused ?? "", /belongs to another journal/);
    await assert.rejects(restoreFrom(story.old, story.backup, { journal: join(lines, "nowhere") }), {
      code: "not-found",
    });
  });

  it("does not follow a CRL of somebody else", async () => {
    await using other = await startService();
    const { items } = await other.admin<{ items: { id: string; kind: string }[] }>("GET", "/v1/issuers");
    const file = join(story.old.dir, "foreign.crl");
    writeFileSync(file, await crlOf(other, items.find(({ kind }) => kind === "intermediate")?.id ?? ""));
    await assert.rejects(
      restoreFrom(story.old, story.backup, { crls: [file] }),
      /none of this authority's issuers signed/,
    );
  });
});
