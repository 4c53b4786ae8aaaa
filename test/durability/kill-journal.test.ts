/**
 * kill -9 of a process that issues with a journal: whatever was acknowledged is in the journal, the next start brings journal and database
 * to the same line by itself, and the journal alone makes the same database again.
 */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { IssuanceRecord, PromotionRecord } from "../../server/store/certificates.ts";
import { readJournal, readTail } from "../../server/store/journal/segments.ts";
import { journalPositionOf, replayJournal } from "../../server/store/sqlite/journal/replay.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { assertSameTables } from "../support/database-tables.ts";
import { scratch } from "../unit/server/store/fixture.ts";
import { runAndKill } from "./killed-child.ts";

/** NEWLEAF_KILL_ROUNDS asks for more. */
const rounds = Number(process.env["NEWLEAF_KILL_ROUNDS"] ?? 6);

describe("kill -9 of a process that issues with a journal", () => {
  it(`leaves nothing acknowledged that the journal lacks, ${rounds} times over`, async () => {
    await using home = await scratch();
    const journal = join(home.directory, "journal");
    const events: string[] = [];
    const onJournal = ({ kind }: { readonly kind: string }): void => void events.push(kind);
    const open = () => openSqliteStore({ path: home.path, create: true, journal, onJournal });
    await (await open())[Symbol.asyncDispose]();
    const start = journalPositionOf(home.path);
    assert.ok(start !== null);
    const copy = join(home.directory, "copy.db");
    copyFileSync(home.path, copy);

    const acknowledged = new Set<string>();
    for (let round = 0; round < rounds; round++) {
      for (const line of await issueAndKill(home.path, journal, 20 + Math.random() * 150)) acknowledged.add(line);
      const written = new Set<string>();
      for (const { line } of readJournal(journal, start)) {
        for (const [name, [record]] of line.commands) {
          if (name === "recordIssuance") written.add(`issued ${(record as IssuanceRecord).certificate.serial}`);
          if (name === "promote") written.add(`used ${(record as PromotionRecord).serial}`);
        }
      }
      for (const what of acknowledged)
        assert.ok(written.has(what), `${what} was acknowledged and is not in the journal`);
    }
    await (await open())[Symbol.asyncDispose]();
    assert.deepEqual(journalPositionOf(home.path)?.hash, readTail(journal)?.link.hash);
    assert.deepEqual(
      events.filter((kind) => kind !== "redone" && kind !== "trimmed"),
      ["based"],
    );
    const { stopped, commands } = replayJournal({ database: copy, directory: journal });
    assert.equal(stopped, null);
    assertSameTables(copy, home.path);
    assert.ok(acknowledged.size > rounds && commands >= acknowledged.size, `only ${acknowledged.size} acts`);
  });
});

/** What was said before the kill, line by line. */
async function issueAndKill(path: string, journal: string, milliseconds: number): Promise<readonly string[]> {
  const { output, hadEnded } = await runAndKill("store-issuer.ts", [path, journal], { afterReady: milliseconds });
  assert.equal(hadEnded, false, "the issuer ended by itself");
  return output.split("\n").slice(1, -1);
}
