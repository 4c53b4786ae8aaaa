/**
 * A store as a large fleet leaves it: rows written in bulk into a data directory that `newleaf init` made. Each identity has one
 * lineage whose generations followed one another every twenty days.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import Database from "better-sqlite3";
import { openSqliteStore } from "../../server/store/sqlite/store.ts";

export interface StoreSize {
  readonly identities: number;
  /** Certificates of each. */
  readonly generations: number;
}

const day = 86_400_000;
const life = 30 * day;
const renewedAfter = 20 * day;
const sites = 20;
/** As large as a P-256 leaf; what stands in it no list looks at. */
const der = Buffer.alloc(640, 0x30);

type Row = readonly (string | number | Buffer | null)[];

export const identityId = (index: number): string => `gateway-${String(index).padStart(6, "0")}`;
export const siteOf = (index: number): string => `site-${index % sites}`;
export const serialOf = (index: number, generation: number): string =>
  `4${digest("serial", index, generation).slice(1, 32)}`;
export const fingerprintOf = (index: number, generation: number): string =>
  `sha256:${digest("leaf", index, generation)}`;
export const keyOf = (index: number, generation: number): string => `sha256:${digest("key", index, generation)}`;

/** @param now when the fleet is looked at, milliseconds */
export async function fillStore(dataDir: string, size: StoreSize, now: number): Promise<void> {
  const path = join(dataDir, "newleaf.db");
  // Brings the schema up to date, and leaves no log behind.
  await (await openSqliteStore({ path }))[Symbol.asyncDispose]();
  using database = closing(new Database(path));
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = OFF");
  database.pragma("cache_size = -400000");
  database.pragma("temp_store = MEMORY");
  const issuer = database.prepare("SELECT id FROM issuers WHERE kind = 'intermediate'").pluck().get() as string;
  const whole = (work: () => void) => database.transaction(work)();
  whole(() => fillIdentities(database, size, now));
  for (let generation = 1; generation <= size.generations; generation++) {
    whole(() => fillGeneration(database, size, generation, issuer, now));
  }
  whole(() => fillReports(database, size, issuer, now));
  database.pragma("wal_checkpoint(TRUNCATE)");
}

function fillIdentities(database: Database.Database, { identities, generations }: StoreSize, now: number): void {
  const identity = into(
    database,
    "identities",
    "id,profile,state,revision,created_at,updated_at,names,labels,owner,search",
  );
  const name = into(database, "identity_names", "identity,kind,name");
  const label = into(database, "identity_labels", "key,value,identity");
  const lineage = into(database, "lineages", "id,identity,state,created_at,newest_generation,locked_at");
  const created = now - (generations + 1) * renewedAfter;
  for (let index = 0; index < identities; index++) {
    const id = identityId(index);
    const dns = [`${id}.${siteOf(index)}.claw.internal`, `alias-${index}.claw.internal`];
    const ip = `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`;
    const labels = { site: siteOf(index), rack: `r${index % 997}` };
    const owner = `team-${index % 50}`;
    const search = [id, ...dns, ip, `site=${labels.site}`, `rack=${labels.rack}`, owner].join("\n");
    const profile = index % 3 === 0 ? "agent" : "gateway";
    const names = JSON.stringify({ dns, ip: [ip], uri: [], email: [] });
    identity([
      id,
      profile,
      index % 1000 === 7 ? "suspended" : "active",
      1,
      created,
      created,
      names,
      JSON.stringify(labels),
      owner,
      search,
    ]);
    for (const each of dns) name([id, "dns", each]);
    name([id, "ip", ip]);
    for (const [key, value] of Object.entries(labels)) label([key, value, id]);
    const isLocked = index % 5000 === 11;
    lineage([lineageOf(index), id, isLocked ? "locked" : "active", created, generations, isLocked ? now - day : null]);
  }
}

/** In the order in which they were issued. */
function fillGeneration(
  database: Database.Database,
  { identities, generations }: StoreSize,
  generation: number,
  issuer: string,
  now: number,
): void {
  const certificate = into(
    database,
    "certificates",
    "serial,issuer_id,identity,profile,kind,lineage,generation,parent,state,key_fingerprint,fingerprint,not_before,not_after,issued_at,renewal_start,renewal_end,first_used_at,superseded_at,der",
  );
  const key = into(database, "keys", "fingerprint,identity,armed,issued");
  for (let step = identities - 1; step >= 0; step--) {
    const index = (step * 7919) % identities;
    const age = (step / identities) * renewedAfter;
    const issued = Math.floor(now - age - (generations - generation) * renewedAfter);
    const isNewest = generation === generations;
    const state = isNewest
      ? index % 2000 === 3
        ? "pending"
        : "current"
      : generation === 1 && index % 500 === 0
        ? "revoked"
        : "superseded";
    key([keyOf(index, generation), identityId(index), 0, 1]);
    certificate([
      serialOf(index, generation),
      issuer,
      identityId(index),
      index % 3 === 0 ? "agent" : "gateway",
      generation === 1 ? "enrollment" : "renewal",
      lineageOf(index),
      generation,
      generation === 1 ? null : serialOf(index, generation - 1),
      state,
      keyOf(index, generation),
      fingerprintOf(index, generation),
      issued - 300_000,
      issued + life,
      issued,
      issued + renewedAfter,
      issued + renewedAfter + 3 * day,
      state === "pending" ? null : issued,
      state === "superseded" ? issued + renewedAfter : null,
      der,
    ]);
  }
}

/** One in a hundred serves the leaf before; one in two hundred has been silent for days. */
function fillReports(
  database: Database.Database,
  { identities, generations }: StoreSize,
  issuer: string,
  now: number,
): void {
  const report = into(database, "reports", "identity,at,serial,clock_skew,report,served,mismatch_since");
  const sighting = into(database, "sightings", "identity,last_seen_at");
  const crls = { [issuer]: 1 };
  for (let index = 0; index < identities; index++) {
    const at = now - (index % 200 === 9 ? 3 * day : (index % 3600) * 1000);
    const isBehind = index % 100 === 42;
    const served = fingerprintOf(index, isBehind ? generations - 1 : generations);
    const seen = {
      address: "127.0.0.1:9443",
      serverName: identityId(index),
      fingerprint: served,
      at: new Date(at).toISOString(),
    };
    const body = {
      certificates: [{ name: "gateway", installed: fingerprintOf(index, generations), served: [seen] }],
      bundleVersion: 1,
      crls,
      clock: new Date(at).toISOString(),
    };
    sighting([identityId(index), at]);
    report([
      identityId(index),
      at,
      serialOf(index, generations),
      (index % 50) * 10,
      JSON.stringify(body),
      JSON.stringify([served]),
      isBehind ? at : null,
    ]);
  }
}

const lineageOf = (index: number): string => digest("lineage", index, 0).slice(0, 32);

function digest(what: string, index: number, generation: number): string {
  return createHash("sha256").update(`${what} ${index} ${generation}`).digest("hex");
}

function into(database: Database.Database, table: string, columns: string): (row: Row) => void {
  const marks = columns
    .split(",")
    .map(() => "?")
    .join(",");
  const statement = database.prepare(`INSERT INTO ${table} (${columns}) VALUES (${marks})`);
  return (row) => void statement.run(...row);
}

function closing(database: Database.Database): Database.Database & Disposable {
  return Object.assign(database, { [Symbol.dispose]: () => void database.close() });
}
