/** Collects what the checks look at. Nothing is changed, and nothing that cannot be read ends it: what is missing is a fact too. */
import { createHash } from "node:crypto";
import { access, constants, readdir, readFile, realpath, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BackupSummary } from "../../authority/backups.ts";
import { listBackups } from "../../backup/shelf.ts";
import { readManifest } from "../../backup/manifest.ts";
import { digestFile } from "../../backup/sealed-file.ts";
import { configFile, type Environment, loadConfig, type ServerConfig } from "../../config.ts";
import { loadIssuer } from "../../keys/load-issuer.ts";
import { type DatabaseFacts, inspectDatabase } from "../../store/sqlite/inspect.ts";
import type {
  BackupFacts,
  ConfigurationFacts,
  DiskFacts,
  Facts,
  FileFacts,
  IssuerKeyFacts,
  JournalFacts,
} from "./facts.ts";
import { gatherService } from "./gather-service.ts";

/** What agents reported before this says nothing about the clock of today. */
const clockWindow = 86_400_000;
/** Whose content is nobody else's business. Everything in offline/ and in a backup is. */
const secretFile = /(?:^|\.)key\.pem$|\.db(?:-wal|-shm)?$|\.p12$|passphrase$|\.jsonl$/;

export async function gatherFacts(dataDir: string, env: Environment, now: number): Promise<Facts> {
  const configuration = await gatherConfiguration(dataDir, env);
  const { config } = configuration;
  const database = await inspectDatabase(join(dataDir, "newleaf.db"), now - clockWindow).catch(
    (error: unknown) => `the database cannot be read: ${messageOf(error)}`,
  );
  const newest = config === null ? null : await newestBackup(config.backup.directory, database);
  return {
    now,
    dataDir,
    uid: process.geteuid?.() ?? 0,
    configuration,
    files: await gatherFiles(dataDir, config, newest),
    database,
    issuerKeys: typeof database === "string" ? [] : gatherIssuerKeys(dataDir, database),
    rootKeyPresent: await exists(join(dataDir, "offline", "root.key.pem")),
    disks: await gatherDisks(dataDir, config),
    backups: config === null ? null : await gatherBackups(config.backup.directory, newest),
    journal: config?.journal == null ? null : await gatherJournal(config.journal),
    service: await gatherService(dataDir, config),
  };
}

async function gatherConfiguration(dataDir: string, env: Environment): Promise<ConfigurationFacts> {
  const text = await readFile(join(dataDir, configFile)).catch(() => null);
  const digest = text === null ? null : createHash("sha256").update(text).digest("hex");
  try {
    return { config: loadConfig({ dataDir, env }), fault: null, digest };
  } catch (error) {
    return { config: null, fault: messageOf(error), digest };
  }
}

async function gatherFiles(
  dataDir: string,
  config: ServerConfig | null,
  newest: BackupSummary | null,
): Promise<readonly FileFacts[]> {
  const found = new Map<string, FileFacts>();
  const note = async (path: string, kind: FileFacts["kind"]): Promise<void> => {
    // Operators' keys are reached through links too: each file once, as it is.
    const real = await realpath(path).catch(() => null);
    if (real === null || found.has(real)) return;
    const { mode, uid } = await stat(real);
    found.set(real, { path: real, kind, mode: mode & 0o777, uid });
  };
  const noteWithin = async (directory: string, isSecret: (name: string) => boolean): Promise<void> => {
    if (!(await exists(directory))) return;
    await note(directory, "directory");
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isDirectory()) await note(path, "directory");
      else if (!entry.isSocket() && isSecret(entry.name)) await note(path, "secret");
    }
  };
  await note(dataDir, "directory");
  for (const name of [configFile, "roots.pem"]) await note(join(dataDir, name), "public");
  for (const name of ["newleaf.db", "newleaf.db-wal", "newleaf.db-shm"]) await note(join(dataDir, name), "secret");
  for (const name of ["issuers", "operators"]) await noteWithin(join(dataDir, name), (file) => secretFile.test(file));
  await noteWithin(join(dataDir, "offline"), (file) => secretFile.test(file));
  // The directory that backups are made in may be shared; what is made is not.
  if (newest !== null) await noteWithin(newest.path, () => true);
  if (config?.journal != null) await noteWithin(config.journal, (file) => secretFile.test(file));
  return [...found.values()];
}

function gatherIssuerKeys(dataDir: string, { issuers }: DatabaseFacts): readonly IssuerKeyFacts[] {
  return issuers
    .filter((row) => row.kind === "intermediate" && (row.state === "active" || row.state === "draining"))
    .map((row) => {
      try {
        loadIssuer(row.certificate, join(dataDir, "issuers", `${row.id}.key.pem`));
        return { issuer: row.id, fault: null };
      } catch (error) {
        return { issuer: row.id, fault: messageOf(error) };
      }
    });
}

async function gatherDisks(dataDir: string, config: ServerConfig | null): Promise<readonly DiskFacts[]> {
  const places: (readonly [DiskFacts["what"], string])[] = [["data", dataDir]];
  if (config !== null) places.push(["backups", config.backup.directory]);
  if (config?.journal != null) places.push(["journal", config.journal]);
  const disks: DiskFacts[] = [];
  for (const [what, wanted] of places) {
    // A directory of backups that was never used is not there yet: its disk is that of the directory it will be made in.
    let path = wanted;
    while (!(await exists(path)) && dirname(path) !== path) path = dirname(path);
    const { bavail, blocks, bsize } = await statfs(path);
    disks.push({ what, path, device: (await stat(path)).dev, free: bavail * bsize, size: blocks * bsize });
  }
  return disks;
}

/** Of this authority: others may keep theirs in the same directory. */
async function newestBackup(directory: string, database: DatabaseFacts | string): Promise<BackupSummary | null> {
  const all = await listBackups(directory).catch(() => []);
  if (typeof database === "string") return all[0] ?? null;
  const own = new Set(database.issuers.map(({ id }) => id));
  return all.find(({ crls }) => Object.keys(crls).some((issuer) => own.has(issuer))) ?? null;
}

async function gatherBackups(directory: string, newest: BackupSummary | null): Promise<BackupFacts> {
  if (newest === null) return { directory, newest: null, fault: null };
  const { name, createdAt, encrypted, journal } = newest;
  const fault = await faultOf(newest.path).catch(messageOf);
  return { directory, newest: { name, createdAt, encrypted, journal }, fault };
}

/** What does not agree with the manifest: null when every file is there as it was written. */
async function faultOf(backup: string): Promise<string | null> {
  for (const { name, size, sha256 } of (await readManifest(backup)).files) {
    const found = await digestFile(join(backup, name));
    if (found.size !== size || found.sha256 !== sha256) return `${name} is not what was written`;
  }
  return null;
}

async function gatherJournal(directory: string): Promise<JournalFacts> {
  try {
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
    return { directory, fault: null };
  } catch (error) {
    return { directory, fault: messageOf(error) };
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
