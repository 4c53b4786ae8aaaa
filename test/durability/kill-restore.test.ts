/**
 * kill -9 of a restore at any moment: what is there is either no data directory or a whole one, and the same command, run again, ends
 * well. At the end the service starts on it.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { findFault } from "../../server/store/sqlite/copy-facts.ts";
import { isFounded } from "../../server/data-directory.ts";
import { settled, use, type Host } from "../support/agent-client.ts";
import { backUp, startRestored } from "../support/restored.ts";
import { startService, type TestService } from "../support/service.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { runAndKill } from "./killed-child.ts";

const rounds = Number(process.env["NEWLEAF_KILL_ROUNDS"] ?? 4);

describe("a restore that is killed", () => {
  const journal = join(temporaryDirectory("journal"), "lines");
  let old: TestService;
  let backup: string;
  let late: Host;
  before(async () => {
    old = await startService({ NEWLEAF_JOURNAL: journal });
    await settled(old, "early");
    backup = await backUp(old);
    late = await settled(old, "late");
    await old.server[Symbol.asyncDispose]();
  });
  after(() => old[Symbol.asyncDispose]());

  it("leaves nothing half", async () => {
    const dataDir = join(old.dir, "restored");
    const seen = { nothing: 0, whole: 0 };
    for (let round = 0; round < rounds; round += 1) {
      const killed = await runRestore(dataDir, { after: (round / rounds) * 160 });
      if (isFounded(dataDir)) {
        seen.whole += 1;
        assert.equal(findFault(join(dataDir, "newleaf.db")), null);
        assert.ok(readdirSync(join(dataDir, "issuers")).length > 0 && existsSync(join(dataDir, "roots.pem")));
        rmSync(dataDir, { recursive: true });
      } else {
        seen.nothing += 1;
        assert.equal(killed.includes("done"), false);
      }
    }
    assert.ok(seen.nothing > 0, `never killed before its end: ${JSON.stringify(seen)}`);
    if (!isFounded(dataDir)) assert.match(await runRestore(dataDir, { after: null }), /done/);
    assert.deepEqual(
      readdirSync(dataDir).filter((name) => name.startsWith(".newleaf")),
      [],
    );
    await using service = await startRestored(old, { dataDir });
    assert.equal((await use(service, late)).status, 200);
  });

  async function runRestore(dataDir: string, kill: { readonly after: number | null }): Promise<string> {
    const options = {
      directory: backup,
      dataDir,
      journal,
      isJournalLost: false,
      crls: [],
      keysDir: join(old.dataDir, "issuers"),
      now: old.clock.now(),
    };
    const at = kill.after === null ? "never" : { afterReady: kill.after };
    const { output, code } = await runAndKill("restore-child.ts", [JSON.stringify(options)], at);
    assert.notEqual(code, 1, "the restore refused");
    return output;
  }
});
