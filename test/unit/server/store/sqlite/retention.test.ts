/** What the database itself holds to, and what is left in it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import Database from "better-sqlite3";
import { openSqliteStore } from "../../../../../server/store/sqlite/store.ts";
import * as f from "../fixture.ts";

const horizon = f.t0 + 100 * f.day;

describe("retention on SQLite", () => {
  it("leaves no revocation of a leaf that went; the database lets no other certificate go, nor a checkpoint", async () => {
    await using home = await f.scratch();
    {
      await using store = await openSqliteStore({ path: home.path, create: true });
      await store.found(f.foundation());
      const first = await f.enrolled(store, "gateway-1");
      await store.recordIssuance(f.renewal(first));
      const late = f.renewal(first, { generation: 3, notAfter: horizon, issuedAt: f.t0 + 70 * f.day });
      await store.recordIssuance(late);
      await f.revoke(store, first, "superseded");
      await store.recordCrl(f.crl(2, f.t0 + 90 * f.day), []);
      assert.equal((await store.forgetExpired({ before: horizon, after: null, limit: 10 })).counts.certificates, 2);
      const tail = (await store.auditTail()) ?? assert.fail();
      await store.recordCheckpoint({ ...tail, at: f.t0, line: "x" });
    }
    const database = new Database(home.path);
    const count = (table: string) => database.prepare(`SELECT count(*) FROM ${table}`).pluck().get();
    assert.deepEqual([count("revocations"), count("certificates")], [0, 1]);
    assert.throws(() => database.exec("DELETE FROM certificates"), /never deleted, but by retention/);
    assert.throws(() => database.exec("DELETE FROM audit_checkpoints"), /never deleted/);
    assert.throws(() => database.exec("UPDATE audit_checkpoints SET line = 'y'"), /never changed/);
    assert.throws(() => database.exec("UPDATE retention SET horizon = horizon - 1"), /only moves on/);
    assert.throws(() => database.exec("DELETE FROM audit"), /append-only/);
    database.close();
  });
});
