/** Checkpoints and the service's own verification, in a running service. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import Database from "better-sqlite3";
import { findCheckpoint } from "../../../../server/audit-checkpoint.ts";
import { type CheckpointTarget, createCheckpoints } from "../../../../server/authority/audit/checkpoint.ts";
import { type AuditWatch, createAuditWatch } from "../../../../server/authority/audit/watch.ts";
import type { AuditEntry } from "../../../../server/store/audit.ts";
import { openSqliteStore } from "../../../../server/store/sqlite/store.ts";
import { startService, type TestService } from "../../../support/service.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";

const day = 86_400_000;
const directory = temporaryDirectory("checkpoints");
const file = join(directory, "share", "checkpoints");
let service: TestService;

before(async () => {
  service = await startService({ NEWLEAF_AUDIT_CHECKPOINTS_FILE: file, NEWLEAF_AUDIT_CHECKPOINTS_INTERVAL: "1h" });
});
after(() => service[Symbol.asyncDispose]());

const metric = async (name: string): Promise<string | undefined> => {
  const text = await (await fetch(`${service.urls.ops}/metrics`)).text();
  return text.split("\n").find((line) => line.startsWith(name));
};
const stored = async () =>
  (await service.admin<{ checkpoints: { line: string }[] }>("GET", "/v1/audit/checkpoints")).checkpoints;
const inFile = () => (existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : []);

describe("audit checkpoints of a service", () => {
  it("begin with its start, also where a target fails: warned of, counted, and in the log", async () => {
    assert.equal((await stored()).length, 1);
    assert.deepEqual(inFile(), [], "the share is not mounted");
    const told = service.log.find((line) => line["msg"] === "audit checkpoint");
    assert.equal(told?.["checkpoint"], (await stored())[0]?.line);
    assert.ok(service.log.some((line) => line["level"] === 40 && line["target"] === "file"));
    assert.equal(
      await metric("newleaf_audit_checkpoint_failures_total"),
      'newleaf_audit_checkpoint_failures_total{target="file"} 1',
    );
  });

  it("wait for a target that comes back, in order, and end with the service's stop", async () => {
    mkdirSync(join(directory, "share"));
    await service.restart();
    const lines = (await stored()).map(({ line }) => line);
    assert.equal(lines.length, 3, "start, stop, start");
    assert.deepEqual(inFile(), lines, "the one that failed was tried again at the stop");
    const { rows } = await service.admin<{ rows: { seq: number; hash: string }[] }>("GET", "/v1/audit/chain");
    for (const line of lines) {
      const checkpoint = findCheckpoint(line) ?? assert.fail();
      assert.equal(rows.find(({ seq }) => seq === checkpoint.seq)?.hash, checkpoint.hash);
    }
    assert.match((await metric("newleaf_audit_checkpoint_timestamp_seconds")) ?? "", /target="(file|store)"\} \d+/);
  });

  it("are due after the interval; a target that hangs keeps nobody waiting", async () => {
    const hung: CheckpointTarget = { name: "syslog", deliver: () => new Promise(() => {}) };
    const checkpoints = createCheckpoints(service.server.authority, [hung]);
    const before = (await stored()).length;
    await checkpoints.run();
    await checkpoints.run();
    assert.equal((await stored()).length, before + 1, "the second was not due");
    service.clock.advance(3_600_000);
    await checkpoints.run();
    assert.equal((await stored()).length, before + 2);
    const begun = performance.now();
    await checkpoints.stop();
    assert.ok(performance.now() - begun < 6_000, "it stops all the same");
  });
});

describe("the service's verification of its own log", () => {
  /** Alters the file of the running service, as who may write it can. */
  const alter = (sql: string): void => {
    const database = new Database(join(service.dataDir, "newleaf.db"));
    for (const name of database
      .prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
      .pluck()
      .all())
      database.exec(`DROP TRIGGER ${name}`);
    database.exec(sql);
    database.close();
  };
  const brokenAt = (watch: AuditWatch) => watch.broken?.seq;
  const newest = async () => (await service.server.authority.store.auditTail())?.seq ?? 0;

  it("follows what is new; a row that was verified is looked at again within a day", async () => {
    let elapsed = 0;
    const watch = createAuditWatch(service.server.authority, () => elapsed);
    await watch.run();
    assert.deepEqual([watch.broken, watch.verified.seq], [null, await newest()]);
    await service.token("followed");
    await watch.run();
    assert.deepEqual([watch.broken, watch.verified.seq], [null, await newest()]);
    elapsed += day;
    await watch.run();
    assert.equal(watch.broken, null);
    assert.equal(await metric("newleaf_audit_chain_ok"), "newleaf_audit_chain_ok 1");

    alter("UPDATE audit SET actor = 'mallory' WHERE seq = 4");
    await watch.run();
    assert.equal(watch.broken, null, "not new, not due");
    elapsed += day;
    await watch.run();
    assert.equal(brokenAt(watch), 4);
    assert.equal(await metric("newleaf_audit_chain_ok"), "newleaf_audit_chain_ok 0");
    await watch.run();
    const told = service.log.filter((line) => line["level"] === 50 && String(line["msg"]).includes("audit log"));
    assert.deepEqual(
      told.map((line) => line["seq"]),
      [4],
      "once",
    );
    alter("UPDATE audit SET actor = 'system' WHERE seq = 4");
    await watch.run();
    assert.equal(await metric("newleaf_audit_chain_ok"), "newleaf_audit_chain_ok 0", "it stays");
    const again = createAuditWatch(service.server.authority);
    await again.run();
    assert.equal(again.broken, null, "a service that starts anew verifies anew");
  });

  it("sees at once when the end is cut off or a checkpoint is another", async () => {
    const watch = createAuditWatch(service.server.authority);
    await watch.run();
    assert.equal(watch.broken, null);
    const last = await newest();
    alter(`DELETE FROM audit WHERE seq = ${last}`);
    await watch.run();
    assert.equal(brokenAt(watch), last);

    alter(`UPDATE audit_checkpoints SET line = replace(line, '"at":"20', '"at":"19') WHERE no = 1`);
    const fresh = createAuditWatch(service.server.authority);
    await fresh.run();
    assert.match(fresh.broken?.reason ?? "", /checkpoint 1 was altered/);
  });
});

describe("a service that is started on another log than it left", () => {
  it("sees by the checkpoint file that the end is gone, and says so; not after a restore, which is in the log", async () => {
    const share = join(directory, "another");
    mkdirSync(share);
    await using left = await startService({ NEWLEAF_AUDIT_CHECKPOINTS_FILE: join(share, "checkpoints") });
    const database = join(left.dataDir, "newleaf.db");
    const broken = () => left.log.filter((line) => line["level"] === 50).map((line) => line["reason"]);
    await left.restart();
    assert.deepEqual(broken(), []);
    await left.server[Symbol.asyncDispose]();
    copyFileSync(database, join(left.dir, "older.db"));
    await left.restart();
    await left.token("forgotten");
    await left.server[Symbol.asyncDispose]();
    copyFileSync(join(left.dir, "older.db"), database);
    await left.restart();
    assert.equal(broken().length, 1);
    assert.match(String(broken()[0]), /its end was cut off, or an older copy was put in its place/);
    assert.match(await (await fetch(`${left.urls.ops}/metrics`)).text(), /^newleaf_audit_chain_ok 0$/m);

    const putBack = async (complete: boolean, bundleVersion: number): Promise<void> => {
      const at = left.clock.now();
      const restored = await openSqliteStore({ path: database });
      await restored.recordRestore({ ...nothingRestored, complete, bundleVersion, at, audit: restoreEntry(at) });
      await restored[Symbol.asyncDispose]();
    };
    await left.server[Symbol.asyncDispose]();
    copyFileSync(join(left.dir, "older.db"), database);
    await putBack(false, 2);
    // A later one knows no more of what was lost then.
    await putBack(true, 3);
    const checkpoints = readFileSync(join(share, "checkpoints"));
    await left.restart();
    assert.equal(broken().length, 1, "told before, and not of what was restored");

    await left.server[Symbol.asyncDispose]();
    copyFileSync(join(left.dir, "older.db"), database);
    await putBack(true, 2);
    writeFileSync(join(share, "checkpoints"), checkpoints);
    await left.restart();
    assert.equal(broken().length, 2, "whose journal told everything brings every row back: it had lost its end");
  });
});

const nothingRestored = {
  complete: true,
  revocations: [],
  blockKeys: [],
  crls: [],
  crlFloors: [],
  bundleVersion: 2,
  detail: {},
};

function restoreEntry(at: number): AuditEntry {
  return { at, actorKind: "system", actor: "system", action: "store.restored" };
}
