import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { verifyAuditChain } from "../../server/audit-chain.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { needs } from "../support/programs.ts";
import * as f from "../unit/server/store/fixture.ts";

interface Said {
  readonly readable?: string;
  readonly recovered?: boolean;
  readonly acknowledged: readonly string[];
  readonly refused: readonly string[];
  readonly messages: readonly string[];
}

describe("a disk that is full", { skip: needs("prlimit") }, () => {
  it("refuses the whole commit, loses nothing acknowledged, and goes on when there is room again", async () => {
    await using home = await f.scratch();
    {
      await using store = await openSqliteStore({ path: home.path, create: true });
      await store.found(f.foundation());
      await f.addIdentity(store, "gateway-1");
    }
    // Files of at most 700 KB: the write-ahead log soon wants more. Node ignores SIGXFSZ, so that write fails with EFBIG.
    const issuer = join(import.meta.dirname, "limited-issuer.ts");
    const child = spawn("prlimit", ["--fsize=700000:unlimited", process.execPath, issuer, home.path], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(child, "exit");
    const said: Said[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      said.push(JSON.parse(line) as Said);
      execFileSync("prlimit", ["--pid", String(child.pid), "--fsize=unlimited:unlimited"]);
      child.stdin.end("room\n");
    }
    assert.deepEqual(await ended, [0, null]);

    const [full, after] = said;
    assert.ok(full !== undefined && after !== undefined);
    assert.ok(full.acknowledged.length > 0 && full.refused.length >= 100);
    assert.equal(full.readable, "pending");
    assert.ok(
      full.messages.every((message) => message.includes("The store could not write: ")),
      full.messages.join(),
    );
    assert.equal(after.recovered, true);

    await using store = await openSqliteStore({ path: home.path });
    for (const serial of after.acknowledged) assert.ok(await store.findCertificate(serial), `${serial} is lost`);
    for (const serial of after.refused) assert.equal(await store.findCertificate(serial), null);
    const rows = await store.readAuditChain(0, 100_000);
    assert.equal(verifyAuditChain(rows).ok, true);
    assert.equal(rows.filter((row) => row.action === "certificate.issued").length, after.acknowledged.length);
  });
});
