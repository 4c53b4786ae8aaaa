/**
 * The journal holds every write: whatever the contract of the store does to a database is done again, from its journal alone, to an
 * empty one, and comes out the same. So a new write that is left out of the journal, or depends on anything but its arguments and
 * the database, fails here as soon as the contract tries it.
 */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { verifyAuditChain } from "../../../../../server/audit-chain.ts";
import { unjournaled } from "../../../../../server/store/sqlite/batch-journal.ts";
import { writeNames } from "../../../../../server/store/sqlite/commands.ts";
import { replayJournal } from "../../../../../server/store/sqlite/replay.ts";
import { openSqliteStore } from "../../../../../server/store/sqlite/store.ts";
import { assertSameTables } from "../../../../support/database-tables.ts";
import { storeContract } from "../contract.ts";
import { scratch } from "../fixture.ts";

/** Commands that some journal of this run holds. */
const seen = new Set<string>();

describe("whatever the store does, its journal does again", () => {
  storeContract(async () => {
    const home = await scratch();
    const directory = join(home.directory, "journal");
    const empty = join(home.directory, "empty.db");
    await (await openSqliteStore({ path: home.path, create: true, journal: directory }))[Symbol.asyncDispose]();
    copyFileSync(home.path, empty);
    const store = await openSqliteStore({ path: home.path, journal: directory });
    return {
      ...store,
      async [Symbol.asyncDispose]() {
        const rows = await store.readAuditChain(0, 100_000);
        await store[Symbol.asyncDispose]();
        assert.equal(verifyAuditChain(rows).ok, true);
        const { stopped, byCommand } = replayJournal({ database: empty, directory });
        assert.equal(stopped, null);
        for (const name of Object.keys(byCommand)) seen.add(name);
        assertSameTables(empty, home.path);
        await home[Symbol.asyncDispose]();
      },
    };
  });
});

describe("every write of the store", () => {
  after(() => seen.clear());

  it("is in the journal, or is one of the few that no restore needs", () => {
    assert.deepEqual([...unjournaled].toSorted(), ["cutJournal", "ping", "recordReport", "recordSeen"]);
    const missing = writeNames.filter((name) => !seen.has(name) && !unjournaled.has(name));
    assert.deepEqual(missing, [], "the contract of the store tries none of these successfully: give each a test there");
    for (const name of unjournaled) assert.ok(!seen.has(name), `${name} is in a journal`);
  });
});
