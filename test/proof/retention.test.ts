/** A hundred thousand certificates are forgotten in slices while others write: how long a commit takes at most, and the file does not grow again. */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { forgetExpired } from "../../server/authority/audit/retention.ts";
import type { Authority } from "../../server/authority/authority.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import { fillStore } from "../bench/million-store.ts";
import { initDataDir } from "../support/service.ts";

const size = { identities: 10_000, generations: 12 };
/** Of another write's wait. The longest is the disk's. */
const aimP99Ms = 50;
const aimLongestMs = 500;

test("100,000 expired certificates are removed beside other writes", { timeout: 290_000 }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "newleaf-retention-"));
  try {
    const dataDir = join(directory, "data");
    await initDataDir(dataDir, directory);
    const now = Date.now();
    await fillStore(dataDir, size, now);
    const path = join(dataDir, "newleaf.db");
    const pagesBefore = pages(path);
    const commits: number[] = [];
    const waits: number[] = [];
    let counts;
    const begun = performance.now();
    {
      await using store = await openSqliteStore({ path, onCommit: ({ seconds }) => commits.push(seconds * 1000) });
      const events = { acted: () => undefined } as unknown as Authority["events"];
      const authority = { store, events, clock: { now: () => now } } as unknown as Authority;
      let isDone = false;
      const others = (async () => {
        while (!isDone) {
          const asked = performance.now();
          await store.ping();
          waits.push(performance.now() - asked);
          await sleep(2);
        }
      })();
      counts = await forgetExpired(authority, now);
      isDone = true;
      await others;
    }
    const seconds = (performance.now() - begun) / 1000;
    const pagesAfter = pages(path);
    t.diagnostic(`${counts.certificates} certificates and ${counts.keys} keys in ${seconds.toFixed(1)} s`);
    t.diagnostic(`COMMIT ${distribution(commits)}; another write's wait ${distribution(waits)}`);
    t.diagnostic(
      `${(statSync(path).size / 1e6).toFixed(0)} MB; pages free for what comes: ${pagesBefore.free} before, ${pagesAfter.free} after, of ${pagesAfter.all}`,
    );
    assert.ok(counts.certificates >= 100_000, `${counts.certificates}`);
    assert.ok(percentile(waits, 0.99) < aimP99Ms, `others waited ${percentile(waits, 0.99)} ms`);
    assert.ok(percentile(waits, 1) < aimLongestMs, `another write waited ${percentile(waits, 1)} ms`);
    assert.equal(pagesAfter.all, pagesBefore.all, "the file did not grow");
    assert.ok(pagesAfter.free > pagesAfter.all / 2, "most of it is free to be used again");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

function pages(path: string): { readonly all: number; readonly free: number } {
  const database = new Database(path);
  const [all, free] = ["page_count", "freelist_count"].map((name) => database.pragma(name, { simple: true }) as number);
  database.close();
  return { all: all ?? 0, free: free ?? 0 };
}

function distribution(times: readonly number[]): string {
  const at = (fraction: number) => percentile(times, fraction).toFixed(1);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms (${times.length})`;
}

function percentile(times: readonly number[], fraction: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}
