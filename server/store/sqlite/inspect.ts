import type { CrlRecord, IssuerRow } from "../issuers.ts";
import { openForReading } from "./database.ts";
import { issuerReads } from "./issuers.ts";
import { readMigrations } from "./migrations.ts";
import { standingReads } from "./standings.ts";

/** What can be told of a database from outside, whether or not a service has it open. */
export interface DatabaseFacts {
  /** What SQLite finds wrong with the file; null when nothing is. */
  readonly fault: string | null;
  readonly size: number;
  readonly issuers: readonly IssuerRow[];
  /** The newest of each issuer. */
  readonly crls: readonly CrlRecord[];
  readonly foundedAt: number | null;
  /** In the middle of what agents' clocks were ahead of ours, milliseconds; null without reports. */
  readonly clock: { readonly skew: number; readonly reports: number } | null;
  readonly openUnvouched: number;
  /** Null: it never had a journal. */
  readonly journal: { readonly id: string; readonly n: number; readonly base: number; readonly lapsed: boolean } | null;
}

interface StoredJournal {
  readonly id: string;
  readonly n: number;
  readonly base: number;
  readonly lapsed: 0 | 1;
}

/**
 * Reads every page of the file once (`quick_check`): some seconds for each gigabyte.
 * @param since reports older than this say nothing about clocks
 * @throws Error when it is no database, or of another version of Newleaf
 */
export async function inspectDatabase(path: string, since: number): Promise<DatabaseFacts> {
  const database = openForReading(path);
  try {
    const check = database.pragma("quick_check(5)") as { readonly quick_check: string }[];
    const faults = check.map((row) => row.quick_check).filter((line) => line !== "ok");
    const number = (sql: string) => database.prepare<[], number>(sql).pluck().get() ?? null;
    const { listIssuers, latestCrl } = issuerReads(database);
    refuseOtherSchema(number("SELECT count(*) FROM migrations") ?? 0);
    const issuers = await listIssuers();
    const crls = await Promise.all(issuers.map((row) => latestCrl(row.id)));
    const journal = database.prepare<[], StoredJournal>("SELECT id, n, base, lapsed FROM journal WHERE no = 1").get();
    return {
      fault: faults.length === 0 ? null : faults.join("; "),
      size: (number("PRAGMA page_count") ?? 0) * (number("PRAGMA page_size") ?? 0),
      issuers,
      crls: crls.filter((crl) => crl !== null),
      foundedAt: number("SELECT at FROM audit WHERE seq = 1"),
      clock: await standingReads(database).medianClockSkew(since),
      openUnvouched: number("SELECT count(*) FROM unvouched WHERE state = 'open'") ?? 0,
      journal: journal === undefined ? null : { ...journal, lapsed: journal.lapsed === 1 },
    };
  } finally {
    database.close();
  }
}

function refuseOtherSchema(applied: number): void {
  const known = readMigrations().length;
  if (applied < known)
    throw new Error(
      `it is of an older version of Newleaf (schema ${applied} of ${known}); starting the service brings it up to date`,
    );
  if (applied > known)
    throw new Error(`it is of a newer version of Newleaf (schema ${applied}; this one knows ${known})`);
}
