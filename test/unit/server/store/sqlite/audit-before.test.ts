/** A log that was written before it could be searched by identity: its rows are found all the same, and still verify. */
import assert from "node:assert/strict";
import { it } from "node:test";
import Database from "better-sqlite3";
import { auditHash, genesisHash, verifyAuditChain } from "../../../../../server/audit-chain.ts";
import { migrate, readMigrations } from "../../../../../server/store/sqlite/migrations.ts";
import { ensureDatabaseFile } from "../../../../../server/store/sqlite/database.ts";
import { openSqliteStore } from "../../../../../server/store/sqlite/store.ts";
import * as f from "../fixture.ts";

it("finds what an older row's detail names", async () => {
  await using home = await f.scratch();
  await ensureDatabaseFile(home.path, true);
  const database = new Database(home.path);
  migrate(database, readMigrations().slice(0, 1), f.t0);
  const detail = { identity: "gateway-1", kind: "renewal" };
  const row = { ...f.audit("certificate.issued", "4a"), seq: 1, previousHash: genesisHash, detail };
  database
    .prepare(
      `INSERT INTO audit (seq, at, actor_kind, actor, action, target, detail, previous_hash, hash)
       VALUES (1, ?, 'system', 'system', 'certificate.issued', '4a', ?, ?, ?)`,
    )
    .run(row.at, JSON.stringify(detail), genesisHash, auditHash(row));
  database.close();
  await using store = await openSqliteStore({ path: home.path });
  await store.recordAudit([f.audit("identity.changed", "gateway-1")]);
  const { items } = await store.listAudit({ identity: "gateway-1", limit: 10 });
  assert.deepEqual(
    items.map(({ seq }) => seq),
    [2, 1],
  );
  assert.equal(verifyAuditChain(await store.readAuditChain(0, 10)).ok, true);
});
