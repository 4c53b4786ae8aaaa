/** A journal on a disk that is full, or gone: every write is refused whole, and it goes on by itself. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { renameSync, statSync } from "node:fs";
import { describe, it } from "node:test";
import { verifyAuditChain } from "../../../../../server/audit-chain.ts";
import { replayJournal } from "../../../../../server/store/sqlite/journal/replay.ts";
import { assertSameTables } from "../../../../support/database-tables.ts";
import { needs } from "../../../../support/programs.ts";
import * as f from "../fixture.ts";
import { kinds, newHome, note } from "../journal-home.ts";

describe("a journal that cannot be written", { skip: needs("prlimit") }, () => {
  it("refuses every write whole, says so, and goes on when it can", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    // Old CRLs are dropped from the database and stay in the journal, which is soon the larger file of the two.
    await home.run(async (store) => {
      for (let number = 2; number < 40; number++) {
        await store.recordCrl({ ...f.crl(number, f.t0 + number), der: new Uint8Array(60_000) }, [f.audit("crl")]);
      }
    });
    const backup = home.keep("backup");
    await home.run(async (store) => {
      const before = await store.journalStatus();
      assert.ok((before?.bytes ?? 0) > 4 * statSync(home.path).size);
      limitFiles(String((before?.bytes ?? 0) + 200));
      try {
        const outcomes = await Promise.allSettled([
          note(store, "a"),
          note(store, "b"),
          f.addIdentity(store, "gateway-1"),
        ]);
        for (const outcome of outcomes) {
          assert.equal(outcome.status, "rejected");
          assert.match(String(outcome.reason), /The store could not write: The journal in .*EFBIG.*nothing was done/s);
        }
        assert.equal(await store.findIdentity("gateway-1"), null);
        const during = await store.journalStatus();
        assert.deepEqual([during?.position, during?.bytes], [before?.position, before?.bytes]);
        assert.match(during?.failure ?? "", /EFBIG/);
        await assert.rejects(store.ping(), /EFBIG/, "there is room for little, and not for what was asked for");
      } finally {
        limitFiles("unlimited");
      }
      await store.ping();
      await f.addIdentity(store, "gateway-1");
      assert.equal((await store.journalStatus())?.failure, null);
      assert.equal(verifyAuditChain(await store.readAuditChain(0, 1000)).ok, true);
    });
    assert.deepEqual(kinds(home.events), ["based", "failing", "recovered"]);
    assert.equal(replayJournal({ database: backup.database, directory: home.journal }).stopped, null);
    assertSameTables(backup.database, home.path);
  });

  it("makes a ping fail although nothing is to be written", async () => {
    await using home = await newHome();
    await home.run(async (store) => {
      await store.ping();
      renameSync(home.journal, `${home.journal}-away`);
      await assert.rejects(store.ping(), /The journal in .* cannot be written \(ENOENT.*is it still mounted\?/);
      renameSync(`${home.journal}-away`, home.journal);
      await store.ping();
    });
    assert.deepEqual(kinds(home.events), ["based", "failing", "recovered"]);
  });

  it("takes the line away again when it is the database that cannot commit", async () => {
    await using home = await newHome();
    await home.run(async (store) => {
      await store.found(f.foundation());
      for (let count = 0; count < 40; count++) await note(store, `filler ${count}`);
      const { size } = statSync(`${home.path}-wal`);
      const before = await store.journalStatus();
      assert.ok(size > 3 * (before?.bytes ?? 0));
      limitFiles(String(size));
      try {
        await assert.rejects(f.addIdentity(store, "gateway-1"), /could not write/);
      } finally {
        limitFiles("unlimited");
      }
      const after = await store.journalStatus();
      assert.deepEqual([after?.position, after?.bytes, after?.failure], [before?.position, before?.bytes, null]);
      await f.addIdentity(store, "gateway-1");
      assert.equal((await store.journalStatus())?.position.n, (before?.position.n ?? 0) + 1);
    });
    assert.deepEqual(kinds(home.events), ["based"]);
  });
});

/** What this process may make of its files, the writer thread's too: Node ignores SIGXFSZ, so a write beyond fails with EFBIG. */
function limitFiles(soft: string): void {
  execFileSync("prlimit", ["--pid", String(process.pid), `--fsize=${soft}:unlimited`]);
}
