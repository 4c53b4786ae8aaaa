import assert from "node:assert/strict";
import { describe, it } from "node:test";
import Database from "better-sqlite3";
import { verifyAuditChain } from "../../server/audit-chain.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { scratch } from "../unit/server/store/fixture.ts";
import { runAndKill } from "./killed-child.ts";

/** Enough to hit commits, checkpoints and starts; NEWLEAF_KILL_ROUNDS asks for more. */
const rounds = Number(process.env["NEWLEAF_KILL_ROUNDS"] ?? 12);

describe("kill -9 of a process that issues", () => {
  it(`loses nothing that was acknowledged, ${rounds} times over`, async () => {
    await using home = await scratch();
    const issued = new Set<string>();
    const used = new Set<string>();
    for (let round = 0; round < rounds; round++) {
      const output = await issueAndKill(home.path, round % 4 === 0 ? 0 : Math.random() * 250);
      // What the kill cut off in the middle of a line was never said.
      for (const line of output.split("\n").slice(0, -1)) {
        const [verb, serial = ""] = line.split(" ");
        if (verb === "issued") {
          assert.ok(!issued.has(serial), `${serial} was issued twice`);
          issued.add(serial);
        }
        if (verb === "used") used.add(serial);
      }
      checkFile(home.path, issued, used);
      await checkChain(home.path);
    }
    assert.ok(issued.size > rounds, `only ${issued.size} were issued`);
  });
});

/** Lets the issuer run for some milliseconds after it is ready, or kills it while it is getting there. */
async function issueAndKill(path: string, milliseconds: number): Promise<string> {
  const at = milliseconds === 0 ? { afterStart: 100 + Math.random() * 300 } : { afterReady: milliseconds };
  const { output, hadEnded } = await runAndKill("store-issuer.ts", [path], at);
  assert.equal(hadEnded, false, "the issuer ended by itself");
  return output;
}

/** With SQLite's own eyes, before anything repairs or checkpoints the file: that is what a next start finds. */
function checkFile(path: string, issued: ReadonlySet<string>, used: ReadonlySet<string>): void {
  const database = new Database(path);
  try {
    assert.equal(database.pragma("integrity_check", { simple: true }), "ok");
    assert.deepEqual(database.pragma("foreign_key_check"), []);
    if (database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'certificates'").get() === undefined) return;
    const state = database.prepare<[string], string>("SELECT state FROM certificates WHERE serial = ?").pluck();
    for (const serial of issued) assert.ok(state.get(serial), `${serial} was acknowledged and is not there`);
    for (const serial of used) assert.notEqual(state.get(serial), "pending", `the first use of ${serial} was lost`);
    const none = (sql: string) => assert.deepEqual(database.prepare(sql).all(), []);
    none("SELECT serial FROM certificates GROUP BY serial HAVING count(*) > 1");
    none("SELECT lineage FROM certificates WHERE state = 'current' GROUP BY lineage HAVING count(*) > 1");
    none(
      `SELECT serial FROM certificates WHERE serial NOT IN (SELECT target FROM audit WHERE action = 'certificate.issued')`,
    );
    none(
      `SELECT target FROM audit WHERE action = 'certificate.issued' AND target NOT IN (SELECT serial FROM certificates)`,
    );
    none(
      `SELECT l.id FROM lineages l WHERE newest_generation IS NOT (SELECT max(generation) FROM certificates WHERE lineage = l.id)`,
    );
    none(`SELECT state, profile, count FROM certificate_totals WHERE count > 0
          EXCEPT SELECT state, profile, count(*) FROM certificates GROUP BY state, profile`);
  } finally {
    database.close();
  }
}

async function checkChain(path: string): Promise<void> {
  await using store = await openSqliteStore({ path });
  const verdict = verifyAuditChain(await store.readAuditChain(0, 1_000_000));
  assert.ok(verdict.ok, verdict.ok ? "" : `row ${verdict.seq}: ${verdict.reason}`);
}
