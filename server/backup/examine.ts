/**
 * Looks at a backup as a restore would need it: every octet, every row, every signature. Each look is a check with a grade; those
 * that rest on one that failed are left out.
 */
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { readCrl } from "@newleaf/shared/crl";
import { verifyBytes } from "@newleaf/shared/key-algorithm";
import { AppError } from "@newleaf/shared/problems";
import { issuerFromPem } from "../keys/load-issuer.ts";
import { canonicalJson } from "../audit-chain.ts";
import type { CrlRecord, IssuerRow } from "../store/issuers.ts";
import {
  findFault,
  judgeSchema,
  readCopyFacts,
  readCopiedIssuers,
  verifyCopiedChain,
} from "../store/sqlite/copy-facts.ts";
import { type Manifest, readManifest, signedBytes } from "./manifest.ts";
import { digestFile, type Opener, readIdentityFile, sealedSuffix, unsealFile, unsealText } from "./sealed-file.ts";

export type Grade = "ok" | "warning" | "failure";

export interface Check {
  readonly name:
    | "manifest"
    | "files"
    | "encryption"
    | "database"
    | "schema"
    | "audit"
    | "counts"
    | "signature"
    | "issuer key"
    | "CRLs"
    | "age";
  readonly grade: Grade;
  readonly detail: string;
}

export interface ExamineOptions {
  readonly directory: string;
  readonly identityFile?: string;
  /** Directory with `….key.pem` of the issuers, when the backup holds none. */
  readonly keysDir?: string;
  /** Where its database is laid out: an empty directory, 0700. What was laid out is left there. */
  readonly layOut: string;
  readonly now: number;
}

export interface Examination {
  readonly checks: readonly Check[];
  /** What was found; present when nothing failed. */
  readonly found: Found | null;
}

export interface Found {
  readonly manifest: Manifest;
  /** Path of the database, laid out. */
  readonly database: string;
  /** File name → PEM of the issuers' keys. */
  readonly keys: ReadonlyMap<string, Buffer>;
  /** newleaf.yml and roots.pem, those there are. */
  readonly texts: ReadonlyMap<string, Buffer>;
  readonly issuers: readonly IssuerRow[];
  readonly crls: readonly CrlRecord[];
}

const oldAfter = 7 * 86_400_000;

/** @returns every check that could be made; nothing is thrown for a bad backup */
export async function examine(options: ExamineOptions): Promise<Examination> {
  const checks: Check[] = [];
  const note = (name: Check["name"], grade: Grade, detail: string): void => void checks.push({ name, grade, detail });
  try {
    const found = await look(options, note);
    const failed = checks.some(({ grade }) => grade === "failure");
    return { checks, found: failed ? null : found };
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    return { checks, found: null };
  }
}

type Note = (name: Check["name"], grade: Grade, detail: string) => void;

/** A check failed without which the others say nothing. */
class Stop extends Error {}

async function look(options: ExamineOptions, note: Note): Promise<Found> {
  const { directory, now } = options;
  const manifest = await attempt("manifest", note, () => readManifest(directory));
  note("manifest", "ok", `Newleaf ${manifest.version}, made ${manifest.createdAt}`);
  await checkFiles(directory, manifest, note);
  const opener = await attempt("encryption", note, () => openerFor(manifest, options));
  const database = join(options.layOut, "newleaf.db");
  const texts = new Map<string, Buffer>();
  const keys = new Map<string, Buffer>();
  await attempt("encryption", note, () => layOut(options, manifest, opener, { database, texts, keys }));
  note("encryption", "ok", manifest.encrypted ? "opened with the identity given" : "not encrypted; it holds no keys");

  await checkDatabase(database, manifest, note);
  const { issuers, crls } = readCopiedIssuers(database);
  checkSignature(manifest, issuers, note);
  await addKeys(options.keysDir, keys);
  checkKeys(issuers, keys, note);
  checkCrls(issuers, crls, note);
  const age = now - Date.parse(manifest.createdAt);
  const days = Math.floor(age / 86_400_000);
  note("age", age > oldAfter ? "warning" : "ok", days < 1 ? "made within the last day" : `made ${days} days ago`);
  return { manifest, database, keys, texts, issuers, crls };
}

async function attempt<T>(name: Check["name"], note: Note, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    note(name, "failure", error instanceof Error ? error.message : String(error));
    throw new Stop();
  }
}

async function checkFiles(directory: string, manifest: Manifest, note: Note): Promise<void> {
  const wrong: string[] = [];
  for (const { name, size, sha256 } of manifest.files) {
    const path = join(directory, name);
    if (!existsSync(path)) wrong.push(`${name} is missing`);
    else {
      const found = await digestFile(path);
      if (found.size !== size || found.sha256 !== sha256)
        wrong.push(`${name} is not what the manifest says: it was altered`);
    }
  }
  const suffix = manifest.encrypted ? sealedSuffix : "";
  for (const name of ["newleaf.db", "newleaf.yml"]) {
    if (!manifest.files.some((file) => file.name === `${name}${suffix}`)) wrong.push(`it holds no ${name}${suffix}`);
  }
  if (wrong.length > 0) {
    note("files", "failure", wrong.join("; "));
    throw new Stop();
  }
  note("files", "ok", `${manifest.files.length} files, each as the manifest says`);
}

async function openerFor(manifest: Manifest, { identityFile }: ExamineOptions): Promise<Opener | null> {
  if (!manifest.encrypted) return null;
  if (identityFile === undefined) {
    throw new AppError(
      "request-invalid",
      "the backup is encrypted: give the identity of one of its recipients with --identity-file FILE",
    );
  }
  return readIdentityFile(identityFile);
}

async function layOut(
  { directory }: ExamineOptions,
  manifest: Manifest,
  opener: Opener | null,
  to: { readonly database: string; readonly texts: Map<string, Buffer>; readonly keys: Map<string, Buffer> },
): Promise<void> {
  for (const { name } of manifest.files) {
    const source = join(directory, name);
    const plain = manifest.encrypted ? name.slice(0, -sealedSuffix.length) : name;
    if (plain === "newleaf.db") {
      await rm(to.database, { force: true });
      await unsealFile(source, to.database, opener);
    } else if (plain.startsWith("issuers/"))
      to.keys.set(plain.slice("issuers/".length), await unsealText(source, opener));
    else to.texts.set(plain, await unsealText(source, opener));
  }
}

async function checkDatabase(database: string, manifest: Manifest, note: Note): Promise<void> {
  await attempt("database", note, async () => {
    const fault = findFault(database);
    if (fault !== null) throw new Error(`SQLite finds it damaged: ${fault}`);
  });
  note("database", "ok", "integrity and references hold");
  const schema = judgeSchema(database);
  note("schema", schema.known ? "ok" : "failure", schema.detail);
  if (!schema.known) throw new Stop();

  const verdict = await verifyCopiedChain(database);
  if (verdict.ok) note("audit", "ok", `${verdict.rows} rows, each following from the one before`);
  else note("audit", "failure", `row ${verdict.seq}: ${verdict.reason}`);

  const facts = readCopyFacts(database);
  const differing = Object.keys({ ...facts, ...manifest.facts }).filter(
    (key) =>
      canonicalJson(facts[key as keyof typeof facts]) !== canonicalJson(manifest.facts[key as keyof typeof facts]),
  );
  const rows = Object.values(facts.tables).reduce((sum, count) => sum + count, 0);
  if (differing.length === 0) note("counts", "ok", `${rows} rows in ${Object.keys(facts.tables).length} tables`);
  else note("counts", "failure", `the database and the manifest disagree about ${differing.join(", ")}`);
}

function checkSignature(manifest: Manifest, issuers: readonly IssuerRow[], note: Note): void {
  const { signature } = manifest;
  if (signature === null) {
    note("signature", "warning", "the manifest is not signed: no issuer's key was at hand when it was made");
    return;
  }
  // Nobody but the issuer that was active signs, and a restore has its key: any other could have been put in with what it signs.
  const row = activeOf(issuers);
  const holds =
    row?.id === signature.issuer &&
    verifyBytes(
      new X509Certificate(row.certificate).publicKey,
      signedBytes(manifest),
      Buffer.from(signature.value, "base64"),
    );
  if (holds) note("signature", "ok", `signed by issuer ${signature.issuer}`);
  else note("signature", "failure", "the manifest's signature does not hold: it, or the database, was replaced");
}

async function addKeys(keysDir: string | undefined, keys: Map<string, Buffer>): Promise<void> {
  if (keysDir === undefined) return;
  for (const name of await readdir(keysDir)) {
    if (/^[A-Za-z0-9._-]+\.key\.pem$/.test(name)) keys.set(name, await readFile(join(keysDir, name)));
  }
}

/** Whether leaves and CRLs can be signed with what is here. */
function checkKeys(issuers: readonly IssuerRow[], keys: ReadonlyMap<string, Buffer>, note: Note): void {
  const active = activeOf(issuers);
  if (active === undefined) {
    note("issuer key", "failure", "there is no active issuer in it");
    return;
  }
  const pem = keys.get(`${active.id}.key.pem`);
  if (pem === undefined) {
    const where = `issuers/${active.id}.key.pem`;
    note("issuer key", "warning", `${where} is not in it; a restore needs it, with --keys DIR`);
    return;
  }
  try {
    // Opening signs something and verifies it.
    issuerFromPem(active.certificate, pem, `issuers/${active.id}.key.pem`);
    note("issuer key", "ok", `the key of the active issuer ${active.id} signs`);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    note("issuer key", "failure", `the key of the active issuer ${active.id} cannot be used: ${error.message}`);
  }
}

function activeOf(issuers: readonly IssuerRow[]): IssuerRow | undefined {
  return issuers.find((row) => row.kind === "intermediate" && row.state === "active");
}

function checkCrls(issuers: readonly IssuerRow[], crls: readonly CrlRecord[], note: Note): void {
  const wrong: string[] = [];
  for (const row of issuers) {
    const crl = crls.find(({ issuerId }) => issuerId === row.id);
    if (crl === undefined) wrong.push(`issuer ${row.id} has none`);
    else if (!holds(crl, row)) wrong.push(`CRL ${crl.number} of issuer ${row.id} does not hold`);
  }
  const numbers = crls.map(({ number }) => number).join(", ");
  if (wrong.length === 0) note("CRLs", "ok", `newest of each issuer signed, numbers ${numbers}`);
  else note("CRLs", "failure", wrong.join("; "));
}

function holds(crl: CrlRecord, issuer: IssuerRow): boolean {
  try {
    const read = readCrl(crl.der);
    return read.number === crl.number && read.verify(new X509Certificate(issuer.certificate).publicKey);
  } catch {
    return false;
  }
}
