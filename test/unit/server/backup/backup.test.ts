/** Backups on disk: whole or not there, few kept, what was altered found, the wrong target refused. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { hash } from "node:crypto";
import { after, before, describe, it } from "node:test";
import Database from "better-sqlite3";
import { type Check, examine } from "../../../../server/backup/examine.ts";
import { type Manifest, manifestFile, signedBytes } from "../../../../server/backup/manifest.ts";
import { makeIdentity } from "../../../../server/backup/sealed-file.ts";
import { readCopyFacts } from "../../../../server/store/sqlite/copy-facts.ts";
import { settled } from "../../../support/agent-client.ts";
import { makeCrl, makeEngineCa } from "../../../support/engine-ca.ts";
import { backUp, restoreFrom, startRestored } from "../../../support/restored.ts";
import { startService, type TestService } from "../../../support/service.ts";

describe("backups", () => {
  let service: TestService;
  let plain: string;
  let sealed: string;
  let identityFile: string;
  let strangersFile: string;
  before(async () => {
    service = await startService({ NEWLEAF_BACKUP_KEEP: "2", NEWLEAF_BACKUP_SCHEDULE: "null" });
    await settled(service, "gateway-1");
    for (const name of ["plain", "sealed"]) mkdirSync(join(service.dir, name), { mode: 0o700 });
    plain = await backUp(service, { directory: join(service.dir, "plain") });
    const mine = await makeIdentity();
    identityFile = identity("mine", mine.identity);
    strangersFile = identity("stranger", (await makeIdentity()).identity);
    sealed = await backUp(service, { directory: join(service.dir, "sealed"), recipients: [mine.recipient] });
  });
  after(() => service[Symbol.asyncDispose]());

  function identity(name: string, text: string): string {
    const file = join(service.dir, `${name}.txt`);
    writeFileSync(file, `# a comment\n${text}\n`, { mode: 0o600 });
    return file;
  }

  const scratch = (): string => mkdtempSync(join(service.dir, "scratch-"));
  const keysDir = (): string => join(service.dataDir, "issuers");

  async function check(directory: string, options: Readonly<Record<string, string>> = {}): Promise<readonly Check[]> {
    const { checks } = await examine({ directory, layOut: scratch(), now: service.clock.now(), ...options });
    return checks;
  }

  const failures = (checks: readonly Check[]): readonly string[] =>
    checks.filter(({ grade }) => grade === "failure").map(({ name }) => name);

  /** A copy of the backup that the test may spoil. */
  function copyOf(directory: string): string {
    const copy = join(scratch(), "2026-11-20T03-17-00Z");
    cpSync(directory, copy, { recursive: true });
    return copy;
  }

  it("closes them to others, and holds a key only when it is encrypted", async () => {
    for (const directory of [plain, sealed]) {
      assert.equal(statSync(directory).mode & 0o777, 0o700);
      for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
        const { mode } = statSync(join(directory, name));
        assert.equal(mode & 0o077, 0, name);
        if (name.includes("key.pem")) assert.equal(directory, sealed);
        const content = statSync(join(directory, name)).isFile() ? readFileSync(join(directory, name), "latin1") : "";
        assert.ok(!content.includes("PRIVATE KEY"), name);
      }
    }
    assert.ok(existsSync(join(sealed, "newleaf.db.age")) && !existsSync(join(sealed, "newleaf.db")));
    assert.ok(readFileSync(join(sealed, "newleaf.db.age"), "latin1").startsWith("age-encryption.org/v1\n"));
    assert.deepEqual(
      readdirSync(service.dataDir).filter((name) => name.startsWith(".backup")),
      [],
      "nothing readable is left where it was prepared",
    );
  });

  it("holds when nothing was done to it", async () => {
    const bare = await check(plain);
    assert.deepEqual(failures(bare), []);
    assert.equal(bare.find(({ name }) => name === "issuer key")?.grade, "warning");
    const withKeys = await check(plain, { keysDir: keysDir() });
    assert.ok(withKeys.every(({ grade }) => grade === "ok"));
    assert.equal(withKeys.length, 11);
    assert.ok((await check(sealed, { identityFile })).every(({ grade }) => grade === "ok"));
  });

  it("keeps the newest, and no failure costs an earlier one", async () => {
    const names: string[] = [];
    for (let round = 0; round < 3; round += 1) {
      service.clock.advance(2000);
      names.push(await backUp(service));
    }
    const directory = join(service.dataDir, "backups");
    const { items } = await service.admin<{ items: { path: string }[] }>("GET", "/v1/backups");
    assert.deepEqual(
      items.map(({ path }) => path),
      names.slice(1).toReversed(),
    );
    assert.equal(readdirSync(directory).length, 2);

    service.clock.advance(2000);
    await assert.rejects(backUp(service, { recipients: ["age1nonsense"] }), { code: "request-invalid" });
    const nowhere = [
      join(plain, manifestFile),
      join(service.dir, "nowhere"),
      "relative",
      "/\u0000",
      "/proc/self/fd/none",
    ];
    for (const place of nowhere)
      await assert.rejects(backUp(service, { directory: place }), { code: "request-invalid" });
    assert.equal(readdirSync(directory).length, 2);

    // What a crash left is neither listed nor kept; what another service may be at, and what it made, stays.
    const [left, begun] = [
      join(directory, "2026-11-20T03-17-00Z.partial"),
      join(directory, "2026-11-21T03-17-00Z.partial"),
    ];
    mkdirSync(left);
    mkdirSync(begun);
    utimesSync(left, 0, 0);
    const others = join(directory, "2025-01-01T00-00-00Z");
    cpSync(plain, others, { recursive: true });
    edit(others, (m) => ({ ...m, facts: { ...(m["facts"] as object), crls: { "0123456789abcdef": 1 } } }));
    await backUp(service);
    assert.deepEqual([existsSync(left), existsSync(begun), existsSync(others)], [false, true, true]);
    rmSync(begun, { recursive: true });
    rmSync(others, { recursive: true });
    const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
    const at = Number(/^newleaf_backup_last_success_timestamp_seconds (\S+)$/m.exec(text)?.[1]);
    assert.ok(Math.abs(at - service.clock.now() / 1000) < 30, `${at}`);
  });

  it("keeps the new one when others are dated after it, by a clock that was ahead", async () => {
    const directory = join(service.dataDir, "backups");
    const day = 86_400_000;
    for (let round = 0; round < 2; round += 1) {
      service.clock.advance(20 * day);
      await backUp(service);
    }
    service.clock.advance(-40 * day);
    const made: string[] = [];
    for (let round = 0; round < 2; round += 1) {
      service.clock.advance(2000);
      made.push(await backUp(service));
      assert.ok(made.every(existsSync), `${made.length} made since the clock is right`);
    }
    assert.equal(readdirSync(directory).length, 2);
  });

  it(
    "counts nothing that another user put beside them",
    { skip: process.getuid?.() !== 0 && "needs root" },
    async () => {
      const directory = join(service.dataDir, "backups");
      service.clock.advance(2000);
      const mine = await backUp(service);
      // A moment before the next one: the two newest but for it.
      service.clock.advance(4000);
      const planted = [1000, 2000].map((before) => {
        const at = Math.floor((service.clock.now() - before) / 1000) * 1000;
        const copy = join(directory, new Date(at).toISOString().replaceAll(":", "-").replace(".000", ""));
        cpSync(plain, copy, { recursive: true });
        edit(copy, (m) => ({ ...m, createdAt: new Date(at).toISOString() }));
        chownSync(copy, 65_534, 65_534);
        return copy;
      });
      const link = join(directory, "2026-01-01T00-00-00Z");
      symlinkSync(plain, link);
      await backUp(service);
      assert.ok([mine, ...planted].every(existsSync));
      const { items } = await service.admin<{ items: { path: string }[] }>("GET", "/v1/backups");
      assert.deepEqual([items.length, items[1]?.path], [2, mine]);
      for (const path of [...planted, link]) rmSync(path, { recursive: true });
    },
  );

  describe("finds what was altered", () => {
    const spoil: readonly (readonly [string, (copy: string) => void, string])[] = [
      ["a byte of the database", (copy) => appendFileSync(join(copy, "newleaf.db"), "x"), "files"],
      ["a database cut short", (copy) => truncateSync(join(copy, "newleaf.db"), 40_960), "files"],
      ["no manifest", (copy) => writeFileSync(join(copy, manifestFile), ""), "manifest"],
      [
        "a manifest of a later format",
        (copy) => edit(copy, ({ format: _format, ...rest }) => ({ ...rest, format: 2 })),
        "manifest",
      ],
      ["a manifest that leads out of the directory", (copy) => edit(copy, leadOut), "manifest"],
      [
        "another time in the manifest",
        (copy) => edit(copy, (m) => ({ ...m, createdAt: "2026-01-01T00:00:00.000Z" })),
        "signature",
      ],
      ["other counts in the manifest", (copy) => edit(copy, otherCounts), "counts"],
      ["a row less, with the hash mended", (copy) => tamper(copy, "DELETE FROM revocations"), "signature"],
      ["an audit row altered, with the hash mended", (copy) => tamper(copy, alterAudit), "audit"],
      ["a schema of the future", (copy) => tamper(copy, futureSchema), "schema"],
      [
        "another issuer's CRL",
        (copy) => tamper(copy, "UPDATE crls SET der = (SELECT der FROM crls ORDER BY no LIMIT 1)"),
        "CRLs",
      ],
    ];
    for (const [what, act, expected] of spoil) {
      it(what, async () => {
        const copy = copyOf(plain);
        act(copy);
        assert.ok(failures(await check(copy, { keysDir: keysDir() })).includes(expected));
        const target = join(scratch(), "data");
        await assert.rejects(restoreFrom(service, copy, { dataDir: target }), { code: "conflict" });
        assert.deepEqual(existsSync(target) ? readdirSync(target) : [], [], "nothing is left of a refused restore");
      });
    }

    it("a signature taken off, unless that was said", async () => {
      const copy = copyOf(plain);
      tamper(copy, "DELETE FROM revocations");
      edit(copy, (m) => ({ ...m, signature: null }));
      await assert.rejects(restoreFrom(service, copy), { code: "conflict", message: /signed by nobody/ });
      const report = await restoreFrom(service, copy, { isUnsignedTaken: true });
      assert.ok(report.checks.some(({ name, grade }) => name === "signature" && grade === "warning"));
    });

    it("a signature of an issuer that was put in", async () => {
      const copy = copyOf(plain);
      await signAsPutIn(copy, service.clock.now());
      assert.deepEqual(failures(await check(copy, { keysDir: keysDir() })), ["signature"]);
      await assert.rejects(restoreFrom(service, copy), { code: "conflict", message: /signature/ });
    });

    it("the wrong key, no key, one that others can read", async () => {
      const open = async (file: string | undefined) =>
        failures(await check(sealed, file === undefined ? {} : { identityFile: file }));
      assert.deepEqual(await open(strangersFile), ["encryption"]);
      assert.deepEqual(await open(undefined), ["encryption"]);
      const readable = identity("readable", "AGE-SECRET-KEY-1");
      chmodSync(readable, 0o644);
      assert.deepEqual(await open(readable), ["encryption"]);
      const wrong = scratch();
      for (const name of readdirSync(keysDir())) {
        writeFileSync(join(wrong, name), readFileSync(service.operator.keyFile), { mode: 0o600 });
      }
      assert.deepEqual(failures(await check(plain, { keysDir: wrong })), ["issuer key"]);
    });
  });

  it("restores only into an empty directory", async () => {
    const occupied = scratch();
    writeFileSync(join(occupied, "notes.txt"), "mine");
    await assert.rejects(restoreFrom(service, plain, { dataDir: occupied }), /not empty/);
    await assert.rejects(restoreFrom(service, plain, { dataDir: service.dataDir }), /already holds/);
    assert.equal(readFileSync(join(occupied, "notes.txt"), "utf8"), "mine");
  });

  it("restores an encrypted one with the key that is in it", async () => {
    const report = await restoreFrom(service, sealed, { identityFile });
    const restoredKeys = readdirSync(join(report.dataDir, "issuers"));
    assert.deepEqual(restoredKeys, readdirSync(keysDir()));
    for (const name of restoredKeys) assert.equal(statSync(join(report.dataDir, "issuers", name)).mode & 0o777, 0o600);
    await using again = await startRestored(service, report);
    await settled(again, "gateway-2");
  });
});

function edit(copy: string, change: (manifest: Record<string, unknown>) => Record<string, unknown>): void {
  const file = join(copy, manifestFile);
  writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)));
}

function leadOut(manifest: Record<string, unknown>): Record<string, unknown> {
  return { ...manifest, files: [{ name: "../newleaf.db", size: 1, sha256: "0".repeat(64) }] };
}

function otherCounts(manifest: Record<string, unknown>): Record<string, unknown> {
  const facts = manifest["facts"] as Record<string, unknown>;
  return { ...manifest, facts: { ...facts, tables: { ...(facts["tables"] as object), revocations: 99 } } };
}

const alterAudit = `DROP TRIGGER audit_is_append_only_update; UPDATE audit SET actor = 'nobody' WHERE seq = 3`;
const futureSchema = `INSERT INTO migrations VALUES (9999, 'future', 'ff', 0)`;

/** By somebody who can write the backup and knows how its hashes are made, but cannot sign. */
function tamper(copy: string, sql: string): void {
  const path = join(copy, "newleaf.db");
  const database = new Database(path);
  database.exec(sql);
  // A change at least, where there was nothing to delete.
  database.exec("UPDATE heartbeat SET beats = beats + 1");
  database.close();
  edit(copy, (manifest) => ({
    ...manifest,
    files: (manifest["files"] as { name: string }[]).map((file) =>
      file.name === "newleaf.db" ? { ...file, size: statSync(path).size, sha256: sha256(path) } : file,
    ),
  }));
}

/** By somebody who has a CA of his own: it stands in the database as one that issues no more, and signs the manifest. */
async function signAsPutIn(copy: string, now: number): Promise<void> {
  const { issuer } = await makeEngineCa({ now });
  const path = join(copy, "newleaf.db");
  const database = new Database(path);
  database
    .prepare(
      `INSERT INTO issuers (id, kind, parent, state, not_before, not_after, certificate)
       SELECT ?, kind, parent, 'retired', not_before, not_after, ? FROM issuers WHERE kind = 'intermediate'`,
    )
    .run(issuer.id, issuer.certificate);
  database
    .prepare(
      `INSERT INTO crls (issuer_id, number, this_update, next_update, der)
       SELECT ?, 1, this_update, next_update, ? FROM crls ORDER BY no LIMIT 1`,
    )
    .run(issuer.id, makeCrl(issuer, now, [], 1));
  database.close();
  tamper(copy, "DELETE FROM revocations");
  edit(copy, (m) => ({ ...m, facts: readCopyFacts(path), signature: null }));
  const unsigned = JSON.parse(readFileSync(join(copy, manifestFile), "utf8")) as Manifest;
  const value = Buffer.from(issuer.sign(signedBytes(unsigned))).toString("base64");
  edit(copy, (m) => ({ ...m, signature: { issuer: issuer.id, value } }));
}

function sha256(path: string): string {
  return hash("sha256", readFileSync(path), "hex");
}
