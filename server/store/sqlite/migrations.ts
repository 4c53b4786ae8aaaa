import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import type { Connection } from "./database.ts";

export interface Migration {
  readonly version: number;
  readonly name: string;
  /** Hex, over the file's bytes. */
  readonly sha256: string;
  readonly sql: string;
}

interface AppliedMigration {
  readonly version: number;
  readonly name: string;
  readonly sha256: string;
}

const fileName = /^(\d{4})-([a-z0-9-]+)\.sql$/;

/**
 * Brings the database to the newest schema: each missing migration in a transaction of its own, in order. Forward only.
 *
 * @param now milliseconds, for the record of when
 * @throws AppError conflict when the file is no Newleaf database, or holds a migration that is unknown here or was altered
 */
export function migrate(database: Connection, migrations: readonly Migration[], now: number): void {
  const applied = readApplied(database);
  for (const [index, row] of applied.entries()) {
    const known = migrations[index];
    if (known === undefined || known.version !== row.version) {
      throw new AppError(
        "conflict",
        `The database ${database.name} holds migration ${row.version} (${row.name}), which this version of Newleaf does not know: ` +
          "a newer one made it. Run that version, or restore a backup made by this one.",
      );
    }
    if (known.sha256 !== row.sha256 || known.name !== row.name) {
      throw new AppError(
        "conflict",
        `Migration ${row.version} (${row.name}) is not the one that was applied to ${database.name}: the file was altered ` +
          "(SHA-256 differs). Reinstall Newleaf, or restore the file as it was.",
      );
    }
  }
  for (const migration of migrations.slice(applied.length)) apply(database, migration, now);
}

/**
 * Reads `0001-name.sql`, `0002-…` from a directory.
 *
 * @throws Error when numbers are missing or doubled
 */
export function readMigrations(directory: string = migrationsDirectory()): readonly Migration[] {
  const migrations: Migration[] = [];
  for (const file of readdirSync(directory).toSorted()) {
    const [, digits, name] = fileName.exec(file) ?? [];
    if (digits === undefined || name === undefined) continue;
    const bytes = readFileSync(join(directory, file));
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    migrations.push({ version: Number(digits), name, sha256, sql: bytes.toString("utf8") });
  }
  const misplaced = migrations.find((migration, index) => migration.version !== index + 1);
  if (misplaced !== undefined || migrations.length === 0) {
    throw new Error(`The migrations in ${directory} are not numbered 1, 2, 3 …; the installation is damaged.`);
  }
  return migrations;
}

/** `migrations/` of the installed package, else of the checkout. */
function migrationsDirectory(): string {
  const candidates = ["../../migrations", "../../../migrations"].map((path) => join(import.meta.dirname, path));
  const found = candidates.find((path) => existsSync(join(path, "0001-foundation.sql")));
  if (found === undefined) {
    throw new Error(`The schema's migrations are in none of ${candidates.join(", ")}; the installation is damaged.`);
  }
  return found;
}

function readApplied(database: Connection): readonly AppliedMigration[] {
  const tables = database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
  if (tables.length === 0) return [];
  if (!tables.includes("migrations")) {
    throw new Error(
      `${database.name} is a database of something else: it has tables, but none that says it is Newleaf's.`,
    );
  }
  return database.prepare<[], AppliedMigration>("SELECT version, name, sha256 FROM migrations ORDER BY version").all();
}

function apply(database: Connection, migration: Migration, now: number): void {
  database
    .transaction(() => {
      database.exec(
        `CREATE TABLE IF NOT EXISTS migrations (
           version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL
         ) STRICT`,
      );
      database.exec(migration.sql);
      database
        .prepare("INSERT INTO migrations (version, name, sha256, applied_at) VALUES (?, ?, ?, ?)")
        .run(migration.version, migration.name, migration.sha256, now);
    })
    .immediate();
}
