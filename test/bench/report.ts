/** The figures as a table: what was measured, beside the goal. */
import type { Checked } from "./check-store.ts";
import type { LoadResult } from "./load.ts";

export interface Measured {
  readonly rounds: Readonly<Record<"ping" | "fresh" | "kept" | "slowFresh" | "slowKept", readonly LoadResult[]>>;
  /** Resident set of the service: at rest, at most with fresh handshakes, at most with kept connections (which it holds by the thousand). */
  readonly residentMb: { readonly idle: number; readonly fresh: number; readonly kept: number };
  readonly commitMs: { readonly fast: number; readonly slow: number | null };
  readonly checks: readonly Checked[];
}

type Row = readonly [what: string, measured: string, goal: string];

export function printReport(
  { rounds, residentMb, commitMs, checks }: Measured,
  { addedFsyncMs }: { addedFsyncMs: number },
): void {
  const ping = medians(rounds.ping);
  const fresh = medians(rounds.fresh);
  const kept = medians(rounds.kept);
  const rows: Row[] = [
    ["bare mTLS handshake and GET", describe(ping), ""],
    ["renewal, fresh handshake each", describe(fresh), "≥ 650/s, ≤ 1.35 ms CPU"],
    ["  share of the bare handshake rate", (fresh.rate / ping.rate).toFixed(2), "≥ 0.65"],
    ["renewal over kept connections", describe(kept), "≥ 2,200/s, ≤ 0.45 ms CPU"],
  ];
  if (rounds.slowFresh.length > 0) {
    const slowFresh = medians(rounds.slowFresh);
    const slowKept = medians(rounds.slowKept);
    rows.push(
      [`fresh, ${addedFsyncMs} ms added to every fsync`, describe(slowFresh), ""],
      ["  share of the rate without", (slowFresh.rate / fresh.rate).toFixed(2), "≥ 0.85"],
      [`kept, ${addedFsyncMs} ms added to every fsync`, describe(slowKept), ""],
      ["  share of the rate without", (slowKept.rate / kept.rate).toFixed(2), ""],
      ["mean commit, without and with", `${commitMs.fast.toFixed(2)} ms, ${commitMs.slow?.toFixed(2) ?? "-"} ms`, ""],
    );
  }
  rows.push(
    ["resident, idle", `${residentMb.idle.toFixed(0)} MB`, "≤ 120 MB"],
    ["resident, fresh handshakes at full load", `${residentMb.fresh.toFixed(0)} MB`, "≤ 170 MB"],
    ["resident, holding 1,000 connections at full load", `${residentMb.kept.toFixed(0)} MB`, ""],
  );
  const width = Math.max(...rows.map(([what]) => what.length));
  const middle = Math.max(...rows.map(([, measured]) => measured.length));
  console.log("");
  for (const [what, measured, goal] of rows)
    console.log(`${what.padEnd(width)}  ${measured.padEnd(middle)}  ${goal}`.trimEnd());
  console.log("");
  for (const { renewals, auditRows, auditRowsPerSecond } of checks) {
    console.log(
      `checked: ${renewals} renewals answered 201, each in the store under a serial of its own; audit chain of ${auditRows} rows whole (${auditRowsPerSecond.toFixed(0)} rows/s)`,
    );
  }
}

interface Medians {
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  readonly cpu: number;
}

function medians(results: readonly LoadResult[]): Medians {
  const of = (value: (result: LoadResult) => number): number => median(results.map(value));
  return {
    rate: of((r) => r.count / r.seconds),
    p50: of((r) => r.p50Ms),
    p99: of((r) => r.p99Ms),
    cpu: of((r) => r.cpuMs),
  };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function describe({ rate, p50, p99, cpu }: Medians): string {
  return `${rate.toFixed(0).padStart(5)}/s  p50 ${p50.toFixed(1)} ms  p99 ${p99.toFixed(1)} ms  CPU ${cpu.toFixed(3)} ms`;
}
