/**
 * The journal holds every write: whatever the contract of the store does to a database is done again, from its journal alone, to an
 * empty one, and comes out the same. So a new write that is left out of the journal, or depends on anything but its arguments and
 * the database, fails here as soon as the contract tries it.
 */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import Database from "better-sqlite3";
import { verifyAuditChain } from "../../../../../server/audit-chain.ts";
import { readLine } from "../../../../../server/store/journal/line.ts";
import { listSegments } from "../../../../../server/store/journal/segments.ts";
import { unjournaled } from "../../../../../server/store/sqlite/journal/batch.ts";
import { writeNames } from "../../../../../server/store/sqlite/commands.ts";
import { journalPositions } from "../../../../../server/store/sqlite/journal/position.ts";
import { replayJournal } from "../../../../../server/store/sqlite/journal/replay.ts";
import { openSqliteStore } from "../../../../../server/store/sqlite/store.ts";
import { assertSameTables } from "../../../../support/database-tables.ts";
import { temporaryDirectory } from "../../../../support/temporary-directory.ts";
import { servingContract } from "../contract.ts";
import { scratch } from "../fixture.ts";

/** Commands that some journal of this run holds. */
const seen = new Set<string>();

describe("whatever the store does, its journal does again", () => {
  const template = join(temporaryDirectory("template"), "empty.db");
  servingContract(async () => {
    if (!existsSync(template)) await (await openSqliteStore({ path: template, create: true }))[Symbol.asyncDispose]();
    const home = await scratch();
    const directory = join(home.directory, "journal");
    copyFileSync(template, home.path);
    const store = await openSqliteStore({ path: home.path, journal: directory });
    return {
      ...store,
      async [Symbol.asyncDispose]() {
        const rows = await store.readAuditChain(0, 100_000);
        await store[Symbol.asyncDispose]();
        assert.equal(verifyAuditChain(rows).ok, true);
        const copy = join(home.directory, "copy.db");
        copyFileSync(template, copy);
        putAtFirstLine(copy, directory);
        const { stopped, byCommand } = replayJournal({ database: copy, directory });
        assert.equal(stopped, null);
        for (const name of Object.keys(byCommand)) seen.add(name);
        assertSameTables(copy, home.path);
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

/** What the start of the service does with an empty database and a new journal. */
function putAtFirstLine(path: string, directory: string): void {
  const [segment] = listSegments(directory);
  const [first] = readFileSync(segment?.path ?? "", "utf8").split("\n");
  const database = new Database(path);
  journalPositions(database).begin(readLine(first ?? ""));
  database.close();
}
