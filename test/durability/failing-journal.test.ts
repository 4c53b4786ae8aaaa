/** A journal whose disk answers EIO: to the fsync of a line, and to the cutting off of what may or may not be on the disk then. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { replayJournal } from "../../server/store/sqlite/journal/replay.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { assertSameTables } from "../support/database-tables.ts";
import { needs } from "../support/programs.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { type Scratch, scratch } from "../unit/server/store/fixture.ts";

/** Acts with the faults that hold while each is tried, and whether it is done. */
const story: readonly (readonly [string, boolean])[] = [
  ["one", true],
  ["two sync", false],
  ["ping sync", false],
  ["three sync cut", false],
  // The fsync would work again, but what the failed line left cannot be cut off.
  ["four cut", false],
  ["ping cut", false],
];

describe("a journal whose disk fails", { skip: needs("cc") }, () => {
  const directory = temporaryDirectory("failing");
  const library = join(directory, "failing-sync.so");

  it("refuses whole what it cannot be sure of, and goes on once the disk does", async () => {
    await using home = await scratch();
    const copy = await found(home);
    const said = await tell(home, [...story, ["five", true], ["ping", true]], "end");
    assert.ok(
      said.some((line) => /^two .*The journal in .* cannot be written \(EIO.*nothing was done/.test(line)),
      said.join("\n"),
    );
    const ids = await identities(home);
    assert.deepEqual(ids, ["five", "one"]);
    assert.equal(replayJournal({ database: copy, directory: join(home.directory, "journal") }).stopped, null);
    assertSameTables(copy, home.path);
  });

  it("killed while a line stands that was refused: the next start carries it out or removes it, in both places alike", async () => {
    await using home = await scratch();
    const copy = await found(home);
    await tell(home, story, "kill");
    const ids = await identities(home);
    assert.ok(ids.includes("one"));
    assert.equal(replayJournal({ database: copy, directory: join(home.directory, "journal") }).stopped, null);
    assertSameTables(copy, home.path);
  });

  /** A database with a journal, and a copy of it as it is then. */
  async function found(home: Scratch): Promise<string> {
    const journal = join(home.directory, "journal");
    await (await openSqliteStore({ path: home.path, create: true, journal }))[Symbol.asyncDispose]();
    const copy = join(home.directory, "copy.db");
    copyFileSync(home.path, copy);
    return copy;
  }

  async function tell(home: Scratch, acts: typeof story, how: "end" | "kill"): Promise<readonly string[]> {
    execFileSync("cc", ["-O1", "-shared", "-fPIC", "-o", library, join(import.meta.dirname, "failing-sync.c"), "-ldl"]);
    const faults = join(home.directory, "faults");
    mkdirSync(faults);
    const script = join(import.meta.dirname, "journal-faults-child.ts");
    const child = spawn(process.execPath, [script, home.path, join(home.directory, "journal")], {
      env: { ...process.env, LD_PRELOAD: library, FAULTS: faults },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(child, "exit");
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const said: string[] = [];
    try {
      for (const [act, isDone] of acts) {
        child.stdin.write(`${act}\n`);
        const line = String((await answers.next()).value);
        said.push(line);
        assert.equal(line.endsWith(" done"), isDone, `${act}: ${line}`);
      }
      if (how === "end") {
        child.stdin.end();
        await ended;
      }
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
    return said;
  }

  async function identities(home: Scratch): Promise<readonly string[]> {
    await using store = await openSqliteStore({ path: home.path, journal: join(home.directory, "journal") });
    const { items } = await store.listIdentities({ limit: 100, now: 0 });
    return items.map(({ id }) => id).toSorted();
  }
});
