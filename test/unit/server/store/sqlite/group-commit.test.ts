import assert from "node:assert/strict";
import { once } from "node:events";
import { statSync } from "node:fs";
import { describe, it } from "node:test";
import type { Worker } from "node:worker_threads";
import { verifyAuditChain } from "../../../../../server/audit-chain.ts";
import type { CommitObservation } from "../../../../../server/store/sqlite/group-commit.ts";
import { openSqliteStore } from "../../../../../server/store/sqlite/store.ts";
import * as f from "../fixture.ts";

describe("group commit", () => {
  it("makes many writes durable with few commits, each write in one of them", async () => {
    await using home = await f.scratch();
    const commits: CommitObservation[] = [];
    await using store = await openSqliteStore({
      path: home.path,
      create: true,
      onCommit: (seen) => commits.push(seen),
    });
    await store.found(f.foundation());
    const fleet = await Promise.all(Array.from({ length: 50 }, (_, index) => f.enrolled(store, `gateway-${index}`)));
    commits.length = 0;
    let generations = fleet;
    const rounds = 10;
    await Promise.all(
      generations.map(async (first, slot) => {
        let parent = first;
        for (let round = 0; round < rounds; round++) {
          const record = f.renewal(parent);
          await store.recordIssuance(record);
          assert.equal(
            (await store.findSuccessor(parent.serial))?.serial,
            record.certificate.serial,
            "read after write",
          );
          await f.promote(store, record.certificate.serial);
          parent = record.certificate;
        }
        generations = generations.with(slot, parent);
      }),
    );
    const writes = commits.reduce((sum, commit) => sum + commit.commands, 0);
    assert.equal(writes, 50 * rounds * 2);
    assert.ok(commits.length <= writes / 5, `${commits.length} commits for ${writes} writes`);
    assert.ok(commits.every((commit) => commit.seconds > 0));
    for (const leaf of generations) assert.equal((await store.findCertificate(leaf.serial))?.state, "current");
    assert.equal(verifyAuditChain(await store.readAuditChain(0, 100_000)).ok, true);
  });

  it("keeps the log short under load without stopping to do so", async () => {
    await using home = await f.scratch();
    await using store = await openSqliteStore({ path: home.path, create: true });
    await store.found(f.foundation());
    const detail = { filler: "x".repeat(8000) };
    let longest = 0;
    for (let round = 0; round < 100; round++) {
      const writes = Array.from({ length: 100 }, () => store.recordAudit([{ ...f.audit("filler"), detail }]));
      await Promise.all(writes);
      longest = Math.max(longest, statSync(`${home.path}-wal`).size);
    }
    const written = statSync(home.path).size;
    assert.ok(written > 40e6, `${written} bytes are in the database file`);
    assert.ok(longest < 60e6, `the log grew to ${longest} bytes`);
  });

  it("finishes what was begun before it closes, and refuses what comes after", async () => {
    await using home = await f.scratch();
    const store = await openSqliteStore({ path: home.path, create: true });
    await store.found(f.foundation());
    const late = Array.from({ length: 20 }, (_, index) => store.recordAudit([f.audit(`late-${index}`)]));
    await store[Symbol.asyncDispose]();
    await Promise.all(late);
    await assert.rejects(store.ping(), /closed/);
    await using again = await openSqliteStore({ path: home.path });
    assert.equal((await again.readAuditChain(0, 100)).length, 21);
  });

  it("rejects everything waiting and everything later when the writer dies; what was acknowledged stays", async () => {
    await using home = await f.scratch();
    const started = once(process, "worker");
    const store = await openSqliteStore({ path: home.path, create: true });
    const [writer] = (await started) as [Worker];
    await store.found(f.foundation());
    const waiting = Array.from({ length: 20 }, () => store.recordAudit([f.audit("lost")]));
    const outcomes = Promise.allSettled(waiting);
    void writer.terminate();
    for (const outcome of await outcomes) {
      assert.equal(outcome.status, "rejected");
      assert.match(String(outcome.reason), /writer has stopped/);
    }
    await assert.rejects(store.ping(), /writer has stopped/);
    assert.equal((await store.listIssuers()).length, 2, "reads go on");
    await store[Symbol.asyncDispose]();
    await using again = await openSqliteStore({ path: home.path });
    await again.ping();
    assert.equal(verifyAuditChain(await again.readAuditChain(0, 100)).ok, true);
  });

  it("takes a commit that was begun by somebody else into the chain", async () => {
    await using home = await f.scratch();
    await using one = await openSqliteStore({ path: home.path, create: true });
    await using two = await openSqliteStore({ path: home.path });
    await one.found(f.foundation());
    const writes = Array.from({ length: 40 }, (_, index) =>
      (index % 2 === 0 ? one : two).recordAudit([f.audit(`w-${index}`)]),
    );
    await Promise.all(writes);
    const rows = await two.readAuditChain(0, 100);
    assert.equal(rows.length, 41);
    assert.equal(verifyAuditChain(rows).ok, true);
  });
});
