import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import Database from "better-sqlite3";
import { readMigrations } from "../../../../../server/store/sqlite/migrations.ts";
import { openSqliteStore } from "../../../../../server/store/sqlite/store.ts";
import * as f from "../fixture.ts";

describe("the database file", () => {
  it("is made only when asked for, 0600 with all that belongs to it, and left as one file", async () => {
    await using home = await f.scratch();
    await assert.rejects(openSqliteStore({ path: home.path }), /There is no database at .*newleaf init/s);
    {
      await using store = await openSqliteStore({ path: home.path, create: true });
      await store.found(f.foundation());
      const files = await readdir(home.directory);
      assert.deepEqual(files.toSorted(), ["newleaf.db", "newleaf.db-shm", "newleaf.db-wal"]);
      for (const file of files) assert.equal((await stat(join(home.directory, file))).mode & 0o777, 0o600, file);
    }
    assert.deepEqual(await readdir(home.directory), ["newleaf.db"]);
    await using again = await openSqliteStore({ path: home.path, create: true });
    assert.equal((await again.listIssuers()).length, 2, "what is there is kept");
    await assert.rejects(openSqliteStore({ path: join(home.directory, "no", "db"), create: true }), /does not exist/);
  });

  it("refuses a file that is another program's, or no database at all", async () => {
    await using home = await f.scratch();
    const foreign = new Database(home.path);
    foreign.exec("CREATE TABLE bookmarks (url TEXT)");
    foreign.close();
    await assert.rejects(openSqliteStore({ path: home.path, create: true }), /database of something else/);
    await assert.rejects(openSqliteStore({ path: import.meta.filename }), /not a database/);
  });

  it("records each migration with the hash of its file", async () => {
    await using home = await f.scratch();
    await (await openSqliteStore({ path: home.path, create: true }))[Symbol.asyncDispose]();
    const database = new Database(home.path, { readonly: true });
    const applied = database.prepare("SELECT version, name, sha256 FROM migrations ORDER BY version").all();
    database.close();
    assert.deepEqual(
      applied,
      readMigrations().map(({ version, name, sha256 }) => ({ version, name, sha256 })),
    );
    assert.deepEqual([readMigrations()[0]?.version, readMigrations()[0]?.name], [1, "foundation"]);
  });

  it("refuses a migration that was altered after it was applied, and one that it does not know", async () => {
    await using home = await f.scratch();
    const shipped = readMigrations();
    const next = { version: shipped.length + 1, name: "next", sha256: "11", sql: "CREATE TABLE next (a)" };
    await (await openSqliteStore({ path: home.path, create: true }))[Symbol.asyncDispose]();
    const altered = shipped.map((migration) => ({ ...migration, sha256: "00" }));
    await assert.rejects(openSqliteStore({ path: home.path, migrations: altered }), /was altered/);

    await (await openSqliteStore({ path: home.path, migrations: [...shipped, next] }))[Symbol.asyncDispose]();
    await assert.rejects(openSqliteStore({ path: home.path }), /migration \d+ \(next\).*a newer one made it/s);
  });

  it("applies a migration whole or not at all", async () => {
    await using home = await f.scratch();
    const shipped = readMigrations();
    const broken = {
      version: shipped.length + 1,
      name: "broken",
      sha256: "",
      sql: "CREATE TABLE half (a); CREATE TABLE half (a);",
    };
    await assert.rejects(
      openSqliteStore({ path: home.path, create: true, migrations: [...shipped, broken] }),
      /already exists/,
    );
    await using store = await openSqliteStore({ path: home.path });
    await store.found(f.foundation());
    const database = new Database(home.path, { readonly: true });
    assert.equal(database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'half'").get(), undefined);
    database.close();
  });

  it("lets nobody change or remove an audit row, or put one out of its place", async () => {
    await using home = await f.scratch();
    await using store = await openSqliteStore({ path: home.path, create: true });
    await store.found(f.foundation());
    await store.recordAudit([f.audit("one"), f.audit("two")]);
    const before = await store.readAuditChain(0, 10);
    const database = new Database(home.path);
    database.pragma("recursive_triggers = OFF");
    const row = "(seq, at, actor_kind, actor, action, previous_hash, hash)";
    for (const [sql, message] of [
      ["UPDATE audit SET actor = 'mallory' WHERE seq = 2", /never changed/],
      ["UPDATE audit SET hash = hash", /never changed/],
      ["DELETE FROM audit WHERE seq = 3", /never deleted/],
      ["DELETE FROM audit", /never deleted/],
      [`INSERT OR REPLACE INTO audit ${row} VALUES (2, 0, 'system', 'mallory', 'x', '', '')`, /must follow/],
      [`INSERT INTO audit ${row} VALUES (9, 0, 'system', 'mallory', 'x', '', '')`, /must follow/],
      [`INSERT INTO audit ${row} VALUES (4, 0, 'system', 'mallory', 'x', 'not the last hash', '')`, /must follow/],
    ] as const) {
      assert.throws(() => database.exec(sql), message, sql);
    }
    database.close();
    assert.deepEqual(await store.readAuditChain(0, 10), before);
  });

  it("lets nobody delete a certificate that was issued", async () => {
    await using home = await f.scratch();
    await using store = await openSqliteStore({ path: home.path, create: true });
    await store.found(f.foundation());
    await f.enrolled(store, "gateway-1");
    const database = new Database(home.path);
    assert.throws(() => database.exec("DELETE FROM certificates"), /never deleted/);
    database.close();
  });
});
