/**
 * What the store can do on this disk: durable issuances a second, one at a time and grouped, what a presented leaf costs to find, and
 * how fast the audit log verifies. `bin/node test/bench/store.ts [--json] [--seconds N]`.
 */
import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { verifyAuditChain } from "../../server/audit-chain.ts";
import type { NewCertificate } from "../../server/store/certificates.ts";
import { replayJournal } from "../../server/store/sqlite/journal/replay.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";
import type { Store } from "../../server/store/store.ts";
import * as f from "../unit/server/store/fixture.ts";

export interface StoreFigures {
  /** Each waits for the one before. */
  readonly alone: IssuanceFigures;
  /** By number of issuances that are under way at once. */
  readonly grouped: readonly (IssuanceFigures & { readonly concurrency: number })[];
  readonly findPresentedMicroseconds: number;
  readonly auditRows: number;
  readonly auditRowsPerSecond: number;
  readonly walMegabytes: number;
  /** With a journal. */
  readonly journal: { readonly megabytes: number; readonly commandsReplayedPerSecond: number } | null;
}

export interface IssuanceFigures {
  readonly perSecond: number;
  /** Of the whole process, both threads. */
  readonly cpuMicroseconds: number;
  readonly p50Milliseconds: number;
  readonly p99Milliseconds: number;
  readonly perCommit: number;
}

/** Auditors read the log in pages of this many rows. */
const auditPage = 10_000;

/** `journals`: where to put the directory of a journal, null for none. */
export async function benchStore(seconds: number, journals: string | null = null): Promise<StoreFigures> {
  await using home = await f.scratch();
  const journal = journals === null ? null : mkdtempSync(join(journals, "newleaf-journal-"));
  const copy = join(home.directory, "copy.db");
  await (await openSqliteStore({ path: home.path, create: true, journal }))[Symbol.asyncDispose]();
  copyFileSync(home.path, copy);
  const figures = await benchWrites(home.path, journal, seconds);
  if (journal === null) return { ...figures, journal: null };
  const began = performance.now();
  const { commands, stopped } = replayJournal({ database: copy, directory: journal });
  if (stopped !== null) throw new Error(stopped);
  const commandsReplayedPerSecond = (commands * 1000) / (performance.now() - began);
  rmSync(journal, { recursive: true });
  return { ...figures, journal: { megabytes: figures.journalBytes / 1e6, commandsReplayedPerSecond } };
}

async function benchWrites(path: string, journal: string | null, seconds: number) {
  const commits = { count: 0, commands: 0 };
  await using store = await openSqliteStore({
    path,
    journal,
    onCommit: ({ commands }) => {
      commits.count += 1;
      commits.commands += commands;
    },
  });
  await store.found(f.foundation());
  const fleet: NewCertificate[] = [];
  for (let index = 0; index < 512; index++) fleet.push(await f.enrolled(store, `gateway-${index}`));

  const measure = async (concurrency: number) => {
    Object.assign(commits, { count: 0, commands: 0 });
    const figures = await issueFor(store, fleet, concurrency, seconds);
    return { concurrency, ...figures, perCommit: commits.commands / commits.count };
  };
  const alone = await measure(1);
  const grouped = [];
  for (const concurrency of [8, 32, 128]) grouped.push(await measure(concurrency));
  return {
    alone,
    grouped,
    findPresentedMicroseconds: await timeFinding(store, fleet),
    ...(await timeVerification(store)),
    walMegabytes: statSync(`${path}-wal`).size / 1e6,
    journalBytes: (await store.journalStatus())?.bytes ?? 0,
  };
}

async function issueFor(store: Store, fleet: NewCertificate[], concurrency: number, seconds: number) {
  const until = performance.now() + seconds * 1000;
  const latencies: number[] = [];
  const cpu = process.cpuUsage();
  const begun = performance.now();
  const worker = async (slot: number) => {
    for (let turn = slot; performance.now() < until; turn += concurrency) {
      const index = turn % fleet.length;
      const parent = fleet[index] as NewCertificate;
      const record = f.renewal(parent);
      const started = performance.now();
      await store.recordIssuance(record);
      latencies.push(performance.now() - started);
      await f.promote(store, record.certificate.serial);
      fleet[index] = record.certificate;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, (_, slot) => worker(slot)));
  const elapsed = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const sorted = latencies.toSorted((a, b) => a - b);
  return {
    perSecond: latencies.length / elapsed,
    cpuMicroseconds: (user + system) / latencies.length,
    p50Milliseconds: sorted[Math.floor(sorted.length / 2)] ?? 0,
    p99Milliseconds: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
  };
}

async function timeFinding(store: Store, fleet: readonly NewCertificate[]): Promise<number> {
  const rounds = 40;
  const begun = performance.now();
  for (let round = 0; round < rounds; round++) for (const { serial } of fleet) await store.findPresented(serial);
  return ((performance.now() - begun) * 1000) / (rounds * fleet.length);
}

async function timeVerification(store: Store): Promise<{ auditRows: number; auditRowsPerSecond: number }> {
  const begun = performance.now();
  let seq = 0;
  let hash: string | undefined;
  while (true) {
    const rows = await store.readAuditChain(seq, auditPage);
    const verdict = verifyAuditChain(rows, hash);
    if (!verdict.ok) throw new Error(`the chain is broken at ${verdict.seq}: ${verdict.reason}`);
    if (verdict.lastSeq === null) break;
    seq = verdict.lastSeq;
    hash = verdict.lastHash;
  }
  return { auditRows: seq, auditRowsPerSecond: seq / ((performance.now() - begun) / 1000) };
}

if (import.meta.main) {
  const at = process.argv.indexOf("--seconds");
  const journals = process.argv.indexOf("--journal");
  const figures = await benchStore(
    at === -1 ? 5 : Number(process.argv[at + 1]),
    journals === -1 ? null : (process.argv[journals + 1] ?? null),
  );
  if (process.argv.includes("--json")) console.log(JSON.stringify(figures));
  else {
    const row = (name: string, it: IssuanceFigures) => ({
      issuances: name,
      "per second": Math.round(it.perSecond),
      "CPU µs": Math.round(it.cpuMicroseconds),
      "p50 ms": it.p50Milliseconds.toFixed(2),
      "p99 ms": it.p99Milliseconds.toFixed(2),
      "writes per commit": it.perCommit.toFixed(1),
    });
    console.log("Each issuance is two writes: the record, and the first use that promotes it.");
    console.table([
      row("one at a time", figures.alone),
      ...figures.grouped.map((it) => row(`${it.concurrency} at once`, it)),
    ]);
    console.log(`findPresented ${figures.findPresentedMicroseconds.toFixed(1)} µs`);
    console.log(`audit verification ${Math.round(figures.auditRowsPerSecond)} rows/s over ${figures.auditRows} rows`);
    console.log(`write-ahead log ${figures.walMegabytes.toFixed(1)} MB`);
    if (figures.journal !== null) {
      const { megabytes, commandsReplayedPerSecond } = figures.journal;
      const rate = Math.round(commandsReplayedPerSecond);
      console.log(`journal ${megabytes.toFixed(1)} MB, carried out again at ${rate} writes/s`);
    }
  }
}
