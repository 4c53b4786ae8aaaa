/**
 * A backup and what happened since → a data directory, all or nothing. The order must not change:
 *
 * 1. the backup is examined as a whole; nothing of it is used when any check fails.
 * 2. the journal is carried out from where the backup stands.
 * 3. what CRLs from elsewhere list is revoked; numbers are raised above anything seen; what was open is void. One transaction, with
 *    its audit row.
 * 4. everything lies complete and fsynced in the staging directory; it is moved up, newleaf.yml last. A crash before that leaves a
 *    directory that `serve` refuses and a second restore begins anew.
 */
import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, rename, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { createFileExclusively, makeDirectory, syncDirectory } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import { auditEntry, systemCaller } from "../authority/authority.ts";
import type { Voided } from "../store/restores.ts";
import { readCopyFacts } from "../store/sqlite/copy-facts.ts";
import { lockJournal } from "../store/sqlite/lock.ts";
import { migrateFile, openSqliteStore } from "../store/sqlite/store.ts";
import { replayJournal, type ReplayResult } from "../store/sqlite/journal/replay.ts";
import type { Store } from "../store/store.ts";
import { type Evidence, learn, readEvidence } from "./evidence.ts";
import { type Check, examine, type Found } from "./examine.ts";

export interface RestoreOptions {
  /** Of the backup. */
  readonly directory: string;
  /** The new data directory: empty, or not there. */
  readonly dataDir: string;
  /** Of the journal; null when none is given. */
  readonly journal: string | null;
  /** Said in so many words: there is no journal any more. */
  readonly isJournalLost: boolean;
  /** Said in so many words: a manifest that nobody signed is taken. */
  readonly isUnsignedTaken?: boolean;
  /** Files with CRLs from hosts or verifiers. */
  readonly crls: readonly string[];
  readonly keysDir?: string;
  readonly identityFile?: string;
  readonly now: number;
  /** What a newleaf.yml says of the journal; null when it has none. */
  readonly configuredJournal: (yaml: string) => string | null;
}

export interface RestoreReport {
  readonly dataDir: string;
  readonly backup: string;
  readonly checks: readonly Check[];
  /** The journal told everything: nothing after the backup is unknown. */
  readonly complete: boolean;
  /** Why it is not. */
  readonly incompleteBecause: string | null;
  readonly journal: Pick<ReplayResult, "lines" | "commands" | "stopped"> | null;
  readonly evidence: readonly { readonly file: string; readonly issuer: string; readonly number: number }[];
  /** Revocations that only the evidence knew. */
  readonly revoked: number;
  readonly crlFloors: Readonly<Record<string, number>>;
  readonly bundleVersion: number;
  readonly voided: Voided;
  readonly epoch: number;
}

/** The name of the staging directory: everything is built in there. */
const staging = ".newleaf-restore";
const configuration = "newleaf.yml";
/** What a restore makes; after a crash only these are removed. */
const ours: readonly string[] = [staging, "newleaf.db", "newleaf.db-wal", "newleaf.db-shm", "roots.pem", "issuers"];

/**
 * Above the highest number seen. With the whole journal the highest is known. Without it each revocation since the backup made a CRL,
 * and so did each hour: no fleet makes a million between two backups.
 */
const crlMargin = { complete: 1000, incomplete: 1_000_000 };
/** Agents refuse a bundle whose version is below the one they hold. */
const bundleMargin = 1000;

/**
 * @throws AppError conflict (the target is not empty, the backup does not hold, foreign journal or CRL), request-invalid (the
 * configuration names a journal and none was given), not-found
 */
export async function restore(options: RestoreOptions): Promise<RestoreReport> {
  const dataDir = resolve(options.dataDir);
  await refuseOccupied(dataDir);
  await makeDirectory(dataDir, 0o700);
  await chmod(dataDir, 0o700);
  for (const name of ours) await rm(join(dataDir, name), { recursive: true, force: true });
  const stage = join(dataDir, staging);
  await mkdir(stage, { mode: 0o700 });
  let isMoving = false;
  try {
    const report = await build(stage, dataDir, options);
    isMoving = true;
    await moveUp(stage, dataDir);
    return report;
  } catch (error) {
    // Refused: the target is as it was. What a crash leaves the next attempt removes.
    if (!isMoving) await rm(stage, { recursive: true, force: true });
    throw error;
  }
}

async function build(stage: string, dataDir: string, options: RestoreOptions): Promise<RestoreReport> {
  // 1. The backup.
  const { checks, found } = await examine({ ...options, layOut: stage });
  if (found === null) {
    const failures = checks.filter(({ grade }) => grade === "failure");
    throw new AppError(
      "conflict",
      `The backup ${options.directory} does not hold; nothing was restored:\n${failures.map(({ name, detail }) => `  ${name}: ${detail}`).join("\n")}`,
    );
  }
  requireKey(found, options);
  requireSignature(found, options);
  requireJournalDecision(found, options);
  migrateFile(found.database);

  // 2. The journal.
  const replayed = await replay(found, options);
  const facts = readCopyFacts(found.database);

  // 3. Evidence, floors, void.
  const evidence = await readEvidence(options.crls, found.issuers);
  const why = incompleteBecause(replayed, evidence, facts.crls);
  const { lesson, ...result } = await record(found, options, { replayed, evidence, why, known: facts });

  // 4. The rest of the directory.
  await writeFiles(stage, found);
  const { manifest } = found;
  return {
    dataDir,
    backup: `${basename(resolve(options.directory))} (${manifest.createdAt})`,
    checks,
    complete: why === null,
    incompleteBecause: why,
    journal:
      replayed === null ? null : { lines: replayed.lines, commands: replayed.commands, stopped: replayed.stopped },
    evidence: evidence.map(({ file, issuerId, number }) => ({ file, issuer: issuerId, number })),
    revoked: lesson.revocations.length,
    ...result,
  };
}

function requireKey({ issuers, keys }: Found, { directory }: RestoreOptions): void {
  const active = issuers.find((row) => row.kind === "intermediate" && row.state === "active");
  if (active !== undefined && keys.has(keyFile(active.id))) return;
  throw new AppError(
    "conflict",
    `The backup ${directory} does not hold the key of its issuer ${active?.id ?? "(none)"}, without which nothing can be signed. ` +
      `Give the directory that has ${active?.id ?? "…"}.key.pem with --keys DIR`,
  );
}

/** A backup is signed. Whoever changes one can take the signature off, but cannot make another. */
function requireSignature({ manifest }: Found, { directory, isUnsignedTaken }: RestoreOptions): void {
  if (manifest.signature !== null || isUnsignedTaken === true) return;
  throw new AppError(
    "conflict",
    `The manifest of ${directory} is signed by nobody: no issuer's key was at hand when it was made, or somebody changed what is in it and ` +
      "took the signature off. If you know that it was the first, say so with --unsigned; else take another backup",
  );
}

/** A journal that exists and is left out would un-revoke: that must be said, not forgotten. */
function requireJournalDecision({ manifest, texts }: Found, options: RestoreOptions): void {
  if (options.journal !== null || options.isJournalLost || manifest.facts.journal === null) return;
  const where = options.configuredJournal(texts.get(configuration)?.toString("utf8") ?? "") ?? "DIR";
  throw new AppError(
    "request-invalid",
    `This authority kept a journal. Give it with --journal ${where}, and nothing that happened after the backup is forgotten. ` +
      "If it is lost, say so with --no-journal",
  );
}

async function replay({ manifest, database }: Found, { journal }: RestoreOptions): Promise<ReplayResult | null> {
  if (journal === null) return null;
  if (!existsSync(journal)) throw new AppError("not-found", `There is no directory ${journal} with a journal`);
  const from = manifest.facts.journal;
  if (from === null) {
    throw new AppError(
      "conflict",
      "This backup was made without a journal, or while the journal lacked something: the one given does not follow it. Restore it with --no-journal",
    );
  }
  using held = await lockUnlessReadOnly(journal);
  // Named for its end: the lock goes when the replay is done.
  void held;
  return replayJournal({ database, directory: journal, from });
}

/**
 * A service that still writes to the journal would make its end a moving one, and go on revoking what the restored one does not know.
 * Where nothing can be written (a copy, a read-only mount) nobody writes.
 * @throws AppError conflict
 */
async function lockUnlessReadOnly(journal: string): Promise<Disposable | null> {
  try {
    return await lockJournal(journal);
  } catch (error) {
    if (error instanceof AppError && error.code === "issuer-unavailable") return null;
    throw error;
  }
}

function keyFile(issuerId: string): string {
  return `${issuerId}.key.pem`;
}

/** Null when nothing can be missing. */
function incompleteBecause(
  replayed: ReplayResult | null,
  evidence: readonly Evidence[],
  crls: Readonly<Record<string, number>>,
): string | null {
  if (replayed === null) return "there was no journal to tell what happened after the backup";
  if (replayed.stopped !== null) return replayed.stopped;
  const newer = evidence.find(({ issuerId, number }) => number > (crls[issuerId] ?? 0));
  if (newer === undefined) return null;
  return `${newer.file} holds CRL ${newer.number}, and the journal ends with CRL ${crls[newer.issuerId] ?? 0}: the journal is not the newest`;
}

interface Known {
  readonly replayed: ReplayResult | null;
  readonly evidence: readonly Evidence[];
  readonly why: string | null;
  readonly known: { readonly crls: Readonly<Record<string, number>>; readonly bundleVersion: number };
}

async function record(found: Found, options: RestoreOptions, { replayed, evidence, why, known }: Known) {
  await using store = await openSqliteStore({ path: found.database });
  const complete = why === null;
  const lesson = await learn(store, evidence, found.issuers);
  const floors = floorsOf(found, evidence, known.crls, complete);
  const bundleVersion = known.bundleVersion + bundleMargin;
  const detail = {
    backup: found.manifest.createdAt,
    backupAuditSeq: found.manifest.facts.audit.seq,
    ...(found.manifest.signature === null ? { unsigned: true } : {}),
    complete,
    ...(why === null ? {} : { incompleteBecause: why }),
    journal:
      replayed === null ? null : { lines: replayed.lines, commands: replayed.commands, end: replayed.position.n },
    evidence: evidence.map(({ issuerId, number }) => ({ issuer: issuerId, number })),
    revokedByEvidence: lesson.revocations.length,
    unknownSerials: lesson.unknown,
    crlFloors: floors,
    bundleVersion,
  };
  const voided = await store.recordRestore({
    at: options.now,
    complete,
    revocations: lesson.revocations,
    blockKeys: lesson.blockKeys,
    crls: await foreignCrls(store, found, evidence),
    crlFloors: Object.entries(floors).map(([issuerId, number]) => ({ issuerId, number })),
    bundleVersion,
    detail,
    audit: auditEntry(systemCaller("restore"), options.now, "store.restored", basename(resolve(options.directory))),
  });
  const epoch = (await store.latestRestore())?.epoch ?? 0;
  return { lesson, crlFloors: floors, bundleVersion, voided, epoch };
}

function floorsOf(
  { issuers, keys }: Found,
  evidence: readonly Evidence[],
  crls: Readonly<Record<string, number>>,
  complete: boolean,
): Readonly<Record<string, number>> {
  const margin = complete ? crlMargin.complete : crlMargin.incomplete;
  return Object.fromEntries(
    issuers.map(({ id }) => {
      const seen = evidence.filter(({ issuerId }) => issuerId === id).map(({ number }) => number);
      const highest = Math.max(crls[id] ?? 0, ...seen);
      // The root's CRLs are numbered at its ceremonies, from the CRL before; nothing was published that nobody there knows of.
      return [id, keys.has(keyFile(id)) ? highest + margin : highest];
    }),
  );
}

/** Newer CRLs of issuers whose key is not here (the root's): they cannot be made anew, and are as good as when they were signed. */
async function foreignCrls(store: Store, { issuers, keys }: Found, evidence: readonly Evidence[]) {
  const taken: Evidence[] = [];
  for (const { id } of issuers.filter((row) => !keys.has(keyFile(row.id)))) {
    const [newest] = evidence.filter(({ issuerId }) => issuerId === id).toSorted((a, b) => b.number - a.number);
    if (newest !== undefined && newest.number > ((await store.latestCrl(id))?.number ?? 0)) taken.push(newest);
  }
  return taken.map(({ issuerId, number, thisUpdate, nextUpdate, der }) => ({
    issuerId,
    number,
    thisUpdate,
    nextUpdate,
    der: new Uint8Array(der),
  }));
}

async function writeFiles(stage: string, { texts, keys, issuers }: Found): Promise<void> {
  await makeDirectory(join(stage, "issuers"), 0o700);
  for (const { id } of issuers) {
    const pem = keys.get(keyFile(id));
    if (pem !== undefined) await createFileExclusively(join(stage, "issuers", keyFile(id)), pem, { mode: 0o600 });
  }
  for (const [name, text] of texts) {
    await createFileExclusively(join(stage, name), text, { mode: name === configuration ? 0o600 : 0o644 });
  }
  await syncDirectory(join(stage, "issuers"));
  await syncDirectory(stage);
}

async function moveUp(stage: string, dataDir: string): Promise<void> {
  const names = await readdir(stage);
  for (const name of names.filter((entry) => entry !== configuration))
    await rename(join(stage, name), join(dataDir, name));
  await syncDirectory(dataDir);
  await rename(join(stage, configuration), join(dataDir, configuration));
  await syncDirectory(dataDir);
  await rm(stage, { recursive: true, force: true });
}

async function refuseOccupied(dataDir: string): Promise<void> {
  if (!existsSync(dataDir)) return;
  if (existsSync(join(dataDir, configuration))) {
    throw new AppError(
      "conflict",
      `${dataDir} already holds a certification authority; nothing was changed. Restore into an empty directory`,
    );
  }
  const entries = await readdir(dataDir);
  // With the staging directory there, what lies around it is of a restore that did not end.
  const unfinished = entries.includes(staging);
  const foreign = entries.filter((name) => name !== "lost+found" && !(unfinished && ours.includes(name)));
  if (foreign.length > 0) {
    throw new AppError(
      "conflict",
      `${dataDir} is not empty (${foreign.slice(0, 3).join(", ")}); nothing was changed. Restore into an empty directory`,
    );
  }
}
