/** Two databases compared table by table, all rows, all columns: what a replay must bring back exactly. */
import assert from "node:assert/strict";
import Database from "better-sqlite3";

/** What no restore needs: agents say it again, or it is only of this file. */
const apart: ReadonlySet<string> = new Set([
  "heartbeat",
  // How the index of words is laid out depends on which commits were shared; what it finds does not.
  "identity_search_config",
  "identity_search_data",
  "identity_search_docsize",
  "identity_search_idx",
  "leaf_uses",
  "migrations",
  "report_crls",
  "reports",
  "sightings",
]);

/** Rows of every table that counts, as SQL would write them, in an order that does not depend on the file. */
export function readTables(path: string): ReadonlyMap<string, readonly string[]> {
  const database = new Database(path);
  try {
    const names = database
      .prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
      .pluck()
      .all();
    const kept = names.filter((name) => !apart.has(name)).toSorted();
    return new Map(kept.map((name) => [name, rowsOf(database, name)]));
  } finally {
    database.close();
  }
}

/** @throws AssertionError naming the first table that differs, and its rows */
export function assertSameTables(actual: string, expected: string): void {
  const [left, right] = [readTables(actual), readTables(expected)];
  assert.deepEqual([...left.keys()], [...right.keys()]);
  for (const [name, rows] of right) assert.deepEqual(left.get(name), rows, `the table ${name} differs`);
}

function rowsOf(database: Database.Database, table: string): readonly string[] {
  const columns = database.prepare<[], { name: string }>(`SELECT name FROM pragma_table_info('${table}')`).all();
  const spelled = columns.map(({ name }) => `quote("${name}")`).join(` || ', ' || `);
  return database.prepare<[], string>(`SELECT ${spelled} FROM "${table}" ORDER BY 1`).pluck().all();
}
