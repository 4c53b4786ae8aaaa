/** The journal and its database: together, after a crash at each step, and when one of the two is not what it was. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import Database from "better-sqlite3";
import type { JournalPosition } from "../../../../../server/store/journal.ts";
import { commandText, formatLine } from "../../../../../server/store/journal/line.ts";
import { listSegments, readTail } from "../../../../../server/store/journal/segments.ts";
import { replayJournal } from "../../../../../server/store/sqlite/journal/replay.ts";
import { assertSameTables } from "../../../../support/database-tables.ts";
import * as f from "../fixture.ts";
import { kinds, linesOf, newHome, note } from "../journal-home.ts";

describe("a journal and its database", () => {
  it("begin together and go on together; only what succeeded and counts is in it", async () => {
    await using home = await newHome();
    await home.run(async (store) => {
      await store.found(f.foundation());
      await f.addIdentity(store, "gateway-1");
      await store.recordSeen("gateway-1", f.t0);
      await store.ping();
      await assert.rejects(store.revokeToken("none", f.t0, [f.audit("never")]), { code: "not-found" });
      const together = [note(store, "one"), store.revokeToken("none", f.t0, []), store.recordSeen("gateway-1", f.t0)];
      const [, refused] = await Promise.allSettled([...together, note(store, "two")]);
      assert.equal(refused?.status, "rejected");
    });
    await home.run((store) => note(store, "after a restart"));
    assert.deepEqual(kinds(home.events), ["based"]);
    assert.deepEqual(linesOf(home), [
      [],
      ["found"],
      ["changeInventory"],
      ["recordAudit", "recordAudit"],
      ["recordAudit"],
    ]);
    const status = await home.run((store) => store.journalStatus());
    assert.deepEqual([status?.position.n, status?.base, status?.failure, status?.segments], [5, 1, null, 1]);
    assert.equal(statSync(home.journal).mode & 0o777, 0o700);
    assert.equal(await home.run((store) => store.journalStatus(), false), null);
  });

  it("are for one service at a time", async () => {
    await using home = await newHome();
    await home.run(async () => {
      await assert.rejects(
        home.run(async () => {}),
        { code: "conflict", message: /Another process writes/ },
      );
    });
    await home.run(async () => {});
  });

  it("do the last line again when the crash came before its commit, and remove one that was cut off", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    const before = home.keep("before");
    await home.run((store) => f.addIdentity(store, "gateway-1"));
    const after = home.keep("after");
    copyFileSync(before.database, home.path);
    const [segment] = listSegments(home.journal);
    appendFileSync(segment?.path ?? "", '{"journal":"half a li');
    await home.run(async (store) => assert.equal((await store.findIdentity("gateway-1"))?.state, "active"));
    assertSameTables(home.path, after.database);
    assert.deepEqual(home.events.slice(1), [
      { kind: "trimmed", segment: segment?.path, bytes: 21 },
      { kind: "redone", line: 3 },
    ]);
    await home.run((store) => note(store, "goes on"));
    assert.equal(linesOf(home).length, 4);
  });

  it("find each other when the crash came at the very first line, whole or torn", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()), false);
    const before = home.keep("before");
    await home.run(async () => {});
    copyFileSync(before.database, home.path);
    await home.run((store) => note(store, "one"));
    assert.deepEqual(kinds(home.events), ["based"]);
    copyFileSync(before.database, home.path);
    const [segment] = listSegments(home.journal);
    truncateSync(segment?.path ?? "", 100);
    await home.run((store) => note(store, "one"));
    assert.equal(linesOf(home).length, 2);
    assert.deepEqual(kinds(home.events), ["based", "trimmed", "based"]);
    assert.equal(listSegments(home.journal).length, 1);
  });
});

describe("a journal that was being cut into files", () => {
  it("goes on in the file before when the crash came before the first line of the new one was whole", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    for (const rest of ["", '{"journal":"']) {
      const path = join(home.journal, "journal-000000000003-20261120T000000000Z.jsonl");
      writeFileSync(path, rest);
      await home.run(async () => {});
      assert.deepEqual(home.events.at(-1), { kind: "trimmed", segment: path, bytes: rest.length });
      assert.equal(existsSync(path), false);
    }
    const place = await home.run(async (store) => {
      await store.cutJournal();
      await note(store, "in the new file");
      return await store.cutJournal();
    });
    assert.deepEqual([place?.n, listSegments(home.journal).map(({ first }) => first)], [3, [1, 3]]);
    await home.run((store) => note(store, "the next start goes on in it"));
    assert.deepEqual(
      listSegments(home.journal).map(({ first }) => first),
      [1, 3],
    );
    assert.equal(linesOf(home).length, 4);
  });
});

describe("a journal that does not fit its database", () => {
  it("is refused when the database is an older copy, of another history, or another service's", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    const old = home.keep("old");
    for (const what of ["one", "two"]) await home.run((store) => note(store, what));
    const new2 = home.keep("new");
    copyFileSync(old.database, home.path);
    const refused = (message: RegExp) =>
      assert.rejects(
        home.run(async () => {}),
        { code: "conflict", message },
      );
    await refused(/has line 4, and the database stands at line 2: it is an older copy.*newleaf backup restore/s);

    rmSync(home.journal, { recursive: true });
    cpSync(old.journal, home.journal, { recursive: true });
    // Whether a copy keeps the mode depends on the version of Node.
    chmodSync(home.journal, 0o700);
    for (const what of ["three", "four"]) await home.run((store) => note(store, what));
    copyFileSync(new2.database, home.path);
    await refused(/different histories from line 4 on/);

    await using other = await newHome();
    cpSync(home.journal, other.journal, { recursive: true });
    await assert.rejects(
      other.run(async () => {}),
      { code: "conflict", message: /was not written with this database/ },
    );
    rmSync(other.journal, { recursive: true });
    await other.run(async () => {});
    copyFileSync(other.path, home.path);
    await refused(/was not written with this database/);
    assert.deepEqual([...new Set(kinds(home.events))], ["based"], "nothing was changed on the way");
  });

  it("begins anew, and says so, when lines are missing from it", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    const backup = home.keep("backup");
    await home.run((store) => note(store, "without"), false);
    await home.run((store) => note(store, "with"));
    assert.deepEqual(home.events.at(-1), {
      kind: "based",
      line: 3,
      reason: "the database was written to without the journal, which was off, or by a restore",
    });
    const { stopped, lines } = replayJournal({ database: backup.database, directory: home.journal });
    assert.equal(lines, 0);
    assert.match(stopped ?? "", /line 1: the journal begins anew there \(the database was written to without/);

    const before = home.keep("before");
    for (const what of ["one", "two"]) await home.run((store) => note(store, what));
    rmSync(home.journal, { recursive: true });
    await assert.rejects(
      home.run(async () => {}),
      { code: "issuer-unavailable", message: /mounted/ },
    );
    cpSync(before.journal, home.journal, { recursive: true });
    await home.run((store) => note(store, "on"));
    assert.match(JSON.stringify(home.events.at(-1)), /"line":7.*ended with line 4, and the database had line 6/);

    rmSync(home.journal, { recursive: true });
    mkdirSync(home.journal);
    const status = await home.run((store) => store.journalStatus());
    assert.deepEqual([status?.base, status?.position.n], [9, 9]);
    assert.deepEqual(kinds(home.events.slice(-2)), ["exposed", "based"]);
    await home.run((store) => note(store, "and on"));
  });

  it("is refused when it has a line more than a database that went on without it", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    const restored = home.keep("restored");
    await home.run((store) => note(store, "by the old service, after the restore had read the journal"));
    copyFileSync(restored.database, home.path);
    await home.run((store) => note(store, "restored"), false);
    await assert.rejects(
      home.run(async () => {}),
      { code: "conflict", message: /has line 3, and the database stands at line 2/ },
    );
  });

  it("is refused where others could have written a line into it: what stands there is carried out", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    const tail = readTail(home.journal) ?? assert.fail();
    const { journal, n, hash } = tail.link;
    const forged = formatLine({ journal, n: n + 1, at: 0, schema: 9, audit: tail.line.audit, previous: hash }, [
      commandText("changeInventory", [[{ kind: "add", entry: f.entry("mallory") }], f.t0, []]),
    ]);
    const [segment = assert.fail()] = listSegments(home.journal);
    const planted = join(home.journal, "journal-000000000003-20261120T000000000Z.jsonl");
    const elsewhere = join(home.journal, "elsewhere");
    const refused = (message: RegExp) =>
      assert.rejects(
        home.run(async () => {}),
        { code: "conflict", message },
      );
    writeFileSync(planted, forged.text, { mode: 0o600 });
    chmodSync(home.journal, 0o1777);
    await refused(/Everybody on this host can write to the journal.*chmod 700/s);
    chmodSync(home.journal, 0o700);

    chmodSync(planted, 0o666);
    await refused(/journal-000000000003.*everybody can write to it/);
    renameSync(planted, elsewhere);
    symlinkSync(elsewhere, planted);
    await refused(/journal-000000000003.*it is no file/);
    rmSync(planted);
    if (process.getuid?.() === 0) {
      renameSync(elsewhere, planted);
      chmodSync(planted, 0o600);
      chownSync(planted, 65_534, 65_534);
      await refused(/journal-000000000003.*it belongs to user 65534/);
      rmSync(planted);
    }
    assert.equal(readTail(home.journal)?.segment.path, segment.path);
    await home.run(async (store) => assert.equal(await store.findIdentity("mallory"), null));
  });

  it("begins anew when somebody wrote into the database by hand", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    await home.run((store) => note(store, "by hand"), false);
    const database = new Database(home.path);
    database.exec("UPDATE journal SET lapsed = 0");
    database.close();
    await home.run(async () => {});
    assert.match(JSON.stringify(home.events.at(-1)), /changed without the journal/);
  });
});

describe("a replay", () => {
  it("stops before a line that does not come out as it did, or that it does not know", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()));
    const backup = home.keep("backup");
    await home.run((store) => f.addIdentity(store, "gateway-1"));
    await home.run((store) => note(store, "one"));
    const tail = readTail(home.journal);
    assert.ok(tail !== null);
    const { journal, n, hash } = tail.link;
    const { audit } = tail.line;
    const forge = (command: string): void => {
      truncateSync(tail.segment.path, tail.end);
      const line = formatLine({ journal, n: n + 1, at: 0, schema: 99, audit, previous: hash }, [command]);
      appendFileSync(tail.segment.path, line.text);
    };
    for (const [command, message] of [
      ['["makeCoffee",[]]', /line 5: it cannot be carried out again: .*does not know the write "makeCoffee"/],
      ['["ping",[]]', /does not know the write "ping"/],
      [commandText("recordAudit", [[f.audit("other")]]), /audit log ends at row 4 .* and not at row 3/],
      [commandText("revokeToken", ["none", f.t0, []]), /There is no token none/],
    ] as const) {
      forge(command);
      const { database } = home.keep("copy");
      copyFileSync(backup.database, database);
      const result = replayJournal({ database, directory: home.journal });
      assert.deepEqual([result.lines, result.position], [2, { journal, n, hash }]);
      assert.match(result.stopped ?? "", message);
      assertSameTables(database, home.path);
    }
  });

  it("is refused from another place than the database's, of another journal, and where there was none", async () => {
    await using home = await newHome();
    await home.run((store) => store.found(f.foundation()), false);
    const never = home.keep("never");
    const refused = (database: string, message: RegExp, from?: JournalPosition): void => {
      const options = { database, directory: home.journal, ...(from === undefined ? {} : { from }) };
      assert.throws(() => replayJournal(options), { code: "conflict", message });
    };
    await home.run(async () => {});
    const backup = home.keep("backup");
    refused(never.database, /never had a journal/);
    refused(backup.database, /stands at line 1 of journal/, { journal: "other", n: 1, hash: "" });
    await home.run((store) => note(store, "without"), false);
    refused(home.path, /written to without its journal/);
    await using other = await newHome();
    await other.run(async () => {});
    const { stopped } = replayJournal({ database: backup.database, directory: other.journal });
    assert.match(stopped ?? "", /belongs to another journal/);
  });
});
