/** Whether what was measured is what was meant: every answer durable in the store, every serial once, nothing else issued, the audit chain whole. */
import { join } from "node:path";
import { verifyAuditChain } from "../../server/audit-chain.ts";
import type { AuditRow } from "../../server/store/audit.ts";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";

export interface Checked {
  readonly renewals: number;
  readonly auditRows: number;
  /** Rows verified a second, read from the database included. */
  readonly auditRowsPerSecond: number;
}

/**
 * `serials`: all that were answered with 201 on this data directory, whose service has stopped.
 * @throws Error that says what does not hold
 */
export async function checkStore(dataDir: string, serials: readonly string[]): Promise<Checked> {
  await using store = await openSqliteStore({ path: join(dataDir, "newleaf.db") });
  const distinct = new Set(serials);
  if (distinct.size !== serials.length)
    throw new Error(`${serials.length - distinct.size} serials were answered twice`);
  for (const serial of distinct) {
    const row = await store.findCertificate(serial);
    if (row === null) throw new Error(`${serial} was answered and is not in the store`);
    if (row.state !== "pending" || row.generation !== 2)
      throw new Error(`${serial} is ${row.state} in generation ${row.generation}`);
  }
  const began = performance.now();
  let verified = 0;
  let renewals = 0;
  let last: AuditRow | undefined;
  for (;;) {
    const page = await store.readAuditChain(last?.seq ?? 0, 5_000);
    if (page.length === 0) break;
    const verdict = verifyAuditChain(page, last?.hash);
    if (!verdict.ok) throw new Error(`the audit chain breaks at row ${verdict.seq}: ${verdict.reason}`);
    verified += verdict.rows;
    renewals += page.filter((row) => row.action === "certificate.issued" && row.detail?.["kind"] === "renewal").length;
    last = page.at(-1);
  }
  const seconds = (performance.now() - began) / 1000;
  if (renewals !== serials.length)
    throw new Error(`${serials.length} renewals were answered, ${renewals} are in the audit log`);
  return { renewals, auditRows: verified, auditRowsPerSecond: verified / seconds };
}
