import type { LeafUse } from "../lineages.ts";
import { type Connection, prepare } from "./database.ts";

/** Where the leaves of a lineage were used, oldest generation first; those never used are left out. */
export function leafUseReads(database: Connection): { listLeafUses(lineage: string): Promise<readonly LeafUse[]> } {
  const ofLineage = prepare<[string], LeafUse>(
    database,
    `SELECT u.serial, c.generation, u.first_at AS firstAt, u.first_address AS firstAddress, u.last_at AS lastAt,
       u.last_address AS lastAddress
     FROM certificates c JOIN leaf_uses u ON u.serial = c.serial WHERE c.lineage = ? ORDER BY c.generation`,
  );
  return { listLeafUses: async (lineage) => ofLineage.all(lineage) };
}

/** Notes a use; the first of a leaf stays. */
export function leafUseWriter(database: Connection): (serial: string, at: number, address: string) => void {
  const put = prepare(
    database,
    `INSERT INTO leaf_uses (serial, first_at, first_address, last_at, last_address) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (serial) DO UPDATE SET last_at = excluded.last_at, last_address = excluded.last_address
       WHERE excluded.last_at >= last_at`,
  );
  return (serial, at, address) => void put.run(serial, at, address, at, address);
}
