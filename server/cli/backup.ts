/** `newleaf backup …` */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import type { Command } from "commander";
import { openAuthority } from "../app.ts";
import { type Authority, systemCaller } from "../authority/authority.ts";
import { type BackupSummary, createBackup } from "../authority/backups.ts";
import { type Check, examine } from "../backup/examine.ts";
import { type RestoreReport, restore } from "../backup/restore.ts";
import { makeIdentity } from "../backup/sealed-file.ts";
import { loadConfig, parseConfig, resolveDataDir } from "../config.ts";
import { isFounded } from "../data-directory.ts";
import { lockDatabase } from "../store/sqlite/lock.ts";
import {
  type AdminOptions,
  collect,
  commandGroup,
  listingCommand,
  printCsv,
  readingCommand,
  withClient,
} from "./admin-command.ts";
import { asJson, asTable, moment, printable } from "./output.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

type BackupAnswer = Omit<BackupSummary, "createdAt"> & { readonly createdAt: string };

export function addBackupCommands(program: Command, terminal: Terminal): void {
  const group = commandGroup(program, "backup", "backups that cannot un-revoke");
  addCreate(group, terminal);
  addList(group, terminal);
  addVerify(group, terminal);
  addRestore(group, terminal);
  addKey(group, terminal);
}

interface CreateOptions {
  readonly out?: string;
  readonly recipient?: readonly string[];
}

function addCreate(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "create",
    summary: "make a backup now: by the running service, or by this command when the service is stopped",
    examples: [
      "newleaf backup create",
      "newleaf backup create --out /mnt/elsewhere/newleaf",
      "newleaf backup create --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
    ],
    notes:
      "Complete or not there: it appears under its name when it is whole and on disk. The issuing keys are in it only when it is encrypted.\nWithout --out the newest ones are kept, as many as backup.keep says.",
  })
    .option("--out <dir>", "a directory that is there on the service's host (default: backup.directory of newleaf.yml)")
    .option(
      "--recipient <age1…>",
      "encrypt for this age recipient (may be repeated; default: backup.recipients)",
      collect,
    )
    .action(
      withClient<CreateOptions>(terminal, async ({ client, options, json }) => {
        const request = {
          ...(options.out === undefined ? {} : { directory: resolve(options.out) }),
          ...(options.recipient === undefined ? {} : { recipients: options.recipient }),
        };
        await using offline = await stoppedService(terminal, options);
        const made: BackupAnswer =
          offline === null
            ? await client.post("/v1/backups", request)
            : await createOffline(offline.authority, request);
        terminal.out(json ? asJson(made) : `${made.path}\n${describe(made)}\n`);
      }),
    );
}

/** The service's ground, when nobody else has it: null when the service runs, or is elsewhere. */
async function stoppedService(
  terminal: Terminal,
  { data, server, as }: AdminOptions,
): Promise<({ readonly authority: Authority } & AsyncDisposable) | null> {
  const dataDir = resolveDataDir(data, terminal.env);
  if (server !== undefined || as !== undefined || !isFounded(dataDir)) return null;
  if (await isInUse(dataDir)) return null;
  const config = loadConfig({ dataDir, env: terminal.env });
  await using stack = new AsyncDisposableStack();
  const authority = await openAuthority(stack, config, { clock: terminal.clock });
  const opened = stack.move();
  return { authority, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

/** Then the service makes the backup itself. */
async function isInUse(dataDir: string): Promise<boolean> {
  try {
    const lock = await lockDatabase(join(dataDir, "newleaf.db"));
    lock[Symbol.dispose]();
    return false;
  } catch (error) {
    if (error instanceof AppError && error.code === "conflict") return true;
    throw error;
  }
}

async function createOffline(
  authority: Authority,
  request: { readonly directory?: string; readonly recipients?: readonly string[] },
): Promise<BackupAnswer> {
  const made = await createBackup(authority, systemCaller("backup create"), request);
  return { ...made, createdAt: new Date(made.createdAt).toISOString() };
}

function addList(group: Command, terminal: Terminal): void {
  listingCommand(group, {
    usage: "list",
    summary: "complete backups in the configured directory, newest first",
    examples: ["newleaf backup list", "newleaf backup list --json"],
  }).action(
    withClient(terminal, async ({ client, options, json }) => {
      if (options.csv === true) return printCsv(terminal, client, "/v1/backups");
      const items = await client.list<BackupAnswer>("/v1/backups");
      const rows = items.map((item) => [
        item.name,
        moment(item.createdAt),
        megabytes(item.size),
        item.encrypted ? (item.holdsKeys ? "with keys" : "yes") : "no",
        String(item.certificates),
        item.journal === null ? "-" : String(item.journal.n),
      ]);
      const headings = ["BACKUP", "MADE", "SIZE", "ENCRYPTED", "CERTIFICATES", "JOURNAL"];
      terminal.out(
        json ? asJson(items) : asTable(headings, rows, "There are no backups. Make one: newleaf backup create"),
      );
    }),
  );
}

interface VerifyOptions {
  readonly identityFile?: string;
  readonly keys?: string;
  readonly json?: boolean;
}

function addVerify(group: Command, terminal: Terminal): void {
  offlineCommand(group, {
    usage: "verify <dir>",
    summary: "look at a backup as a restore would need it; needs no service",
    examples: [
      "newleaf backup verify /var/lib/newleaf/backups/2026-11-20T03-17-00Z",
      "newleaf backup verify /mnt/elsewhere/newleaf/2026-11-20T03-17-00Z --identity-file backup-key.txt",
    ],
    notes:
      "Checks hashes and the manifest's signature, decrypts, lets SQLite check the database, follows the audit chain, compares counts, signs\nsomething with the issuer's key and verifies the CRLs. Exit code 1 when any check fails.",
  })
    .option("--identity-file <file>", "age identity of one of its recipients (mode 0600)")
    .option(
      "--keys <dir>",
      "directory with the issuer's key, when the backup holds none: issuers/ of the data directory",
    )
    .option("--json", "print the checks as JSON")
    .action(async (directory: string, options: VerifyOptions) => {
      const layOut = await mkdtemp(join(tmpdir(), "newleaf-verify-"));
      try {
        const { checks, found } = await examine({
          directory: resolve(directory),
          ...(options.identityFile === undefined ? {} : { identityFile: options.identityFile }),
          ...(options.keys === undefined ? {} : { keysDir: options.keys }),
          layOut,
          now: terminal.clock.now(),
        });
        terminal.out(options.json === true ? asJson({ ok: found !== null, checks }) : graded(checks));
        if (found === null)
          throw new AppError(
            "conflict",
            `Not verified: ${directory}. Where the cause is the backup and not what was given with it, keep an older one`,
          );
      } finally {
        await rm(layOut, { recursive: true, force: true });
      }
    });
}

interface RestoreCommandOptions {
  readonly data?: string;
  /** False: `--no-journal`. */
  readonly journal?: string | boolean;
  readonly crl?: readonly string[];
  readonly unsigned?: boolean;
  readonly keys?: string;
  readonly identityFile?: string;
  readonly json?: boolean;
}

function addRestore(group: Command, terminal: Terminal): void {
  // Both are one option to the parser, and the later one would win without a word.
  const said = new Set<string>();
  offlineCommand(group, {
    usage: "restore <dir>",
    summary: "make a data directory from a backup, its journal and what hosts know; offline, all or nothing",
    examples: [
      "newleaf backup restore /mnt/elsewhere/newleaf/2026-11-20T03-17-00Z --data /var/lib/newleaf --journal /mnt/elsewhere/journal --keys /safe/issuers",
      "newleaf backup restore 2026-11-20T03-17-00Z --data ./restored --no-journal --crl gateway-1.crl.pem --identity-file backup-key.txt",
    ],
    notes:
      "First make sure that the old service is stopped and stays so: two that run from one history revoke and number apart.\nWithout the journal nothing that happened after the backup is known but what the CRLs say; see docs/backup.md.",
  })
    .on("option:journal", () => said.add("--journal"))
    .on("option:no-journal", () => said.add("--no-journal"))
    .option("--data <dir>", "the new data directory: empty, or not there yet")
    .option("--journal <dir>", "directory of the journal: everything after the backup is carried out again")
    .option("--no-journal", "there is none, or it is lost")
    .option("--unsigned", "take a backup that was made while no issuer's key was at hand to sign it")
    .option("--crl <file>", "a CRL that a host or verifier holds, PEM or DER (may be repeated)", collect)
    .option(
      "--keys <dir>",
      "directory with the issuer's key, when the backup holds none: issuers/ of the old data directory",
    )
    .option("--identity-file <file>", "age identity of one of its recipients (mode 0600)")
    .option("--json", "print what was done as JSON")
    .action(async (directory: string, options: RestoreCommandOptions) => {
      const { data, journal, crl, unsigned, keys, identityFile } = options;
      if (said.size > 1) throw new UsageError("Say either --journal DIR or --no-journal");
      if (data === undefined)
        throw new UsageError("Say with --data DIR where to restore to: a directory that is empty or not there");
      const report = await restore({
        directory: resolve(directory),
        dataDir: data,
        journal: typeof journal === "string" ? resolve(journal) : null,
        isJournalLost: journal === false,
        isUnsignedTaken: unsigned === true,
        crls: crl ?? [],
        ...(keys === undefined ? {} : { keysDir: keys }),
        ...(identityFile === undefined ? {} : { identityFile }),
        now: terminal.clock.now(),
        configuredJournal: (text) => parseConfig({ dataDir: data, text, env: {} }).journal,
      });
      terminal.out(options.json === true ? asJson(report) : story(report));
    });
}

function addKey(group: Command, terminal: Terminal): void {
  offlineCommand(group, {
    usage: "key",
    summary: "make an age identity to encrypt backups for, and print its recipient",
    examples: ["newleaf backup key --out backup-key.txt"],
    notes:
      "The recipient (age1…) goes into backup.recipients of newleaf.yml. The file opens every backup encrypted for it, and with it the issuing\nkeys: keep it off this host, and twice.",
  })
    .option("--out <file>", "file for the identity, made with mode 0600")
    .action(async ({ out }: { readonly out?: string }) => {
      if (out === undefined) throw new UsageError("Say with --out FILE where the identity goes");
      const { identity, recipient } = await makeIdentity();
      const text = `# newleaf backup identity; keep it away from the service\n# public key: ${recipient}\n${identity}\n`;
      await createFileExclusively(out, text, { mode: 0o600 });
      terminal.out(`${recipient}\n`);
    });
}

function offlineCommand(
  group: Command,
  { usage, summary, examples, notes }: { usage: string; summary: string; examples: readonly string[]; notes: string },
): Command {
  const lines = examples.map((line) => `  ${line}`).join("\n");
  return group
    .command(usage)
    .summary(summary)
    .description(summary)
    .addHelpText("after", `\n${notes}\n\nExamples:\n${lines}\n`);
}

function graded(checks: readonly Check[]): string {
  const words = { ok: "ok", warning: "WARNING", failure: "FAILED" };
  return asTable(
    ["CHECK", "", "FOUND"],
    checks.map(({ name, grade, detail }) => [name, words[grade], detail]),
    "Nothing could be checked.",
  );
}

function describe(made: BackupAnswer): string {
  const lock = made.encrypted
    ? `encrypted${made.holdsKeys ? ", with the issuing keys" : ""}`
    : "not encrypted, without keys";
  return `${megabytes(made.size)}, ${made.certificates} certificates, ${lock}. Check it with: newleaf backup verify ${made.path}`;
}

function story(report: RestoreReport): string {
  const { journal, voided, evidence } = report;
  const lines = [
    `Restored ${printable(report.backup)} into ${report.dataDir}`,
    ...report.checks
      .filter(({ grade }) => grade === "warning")
      .map(({ name, detail }) => `WARNING     ${name}: ${printable(detail)}`),
    "",
    journal === null
      ? "journal     none"
      : `journal     ${journal.lines} lines with ${journal.commands} writes carried out again`,
    ...evidence.map(({ file, issuer, number }) => `CRL         ${file}: number ${number} of issuer ${issuer}`),
    `revoked     ${report.revoked} that only these CRLs knew`,
    ...Object.entries(report.crlFloors).map(([issuer, number]) => `CRL floor   ${issuer}: the next is above ${number}`),
    `bundle      version ${report.bundleVersion}`,
    `void        ${voided.tokens} tokens, ${voided.requests} requests, ${voided.grants} grants, ${voided.armedKeys} approved keys`,
    "",
    report.complete
      ? "Complete: the journal tells everything that happened after the backup."
      : `NOT COMPLETE: ${report.incompleteBecause ?? ""}\nLeaves that are not in it are refused; decide about them with: newleaf cert unvouched list`,
    "",
    "Next",
    "  - make sure that the old service stays stopped",
    ...(report.complete
      ? []
      : ["  - in newleaf.yml give `journal` a new, empty directory: the old journal does not follow this restore"]),
    `  - unless an operator's certificate is at hand: newleaf operator rescue ID --data ${report.dataDir}`,
    `  - newleaf serve --data ${report.dataDir}`,
    "  - newleaf backup create: backups of before can no longer be brought up to date",
    "",
  ];
  return lines.join("\n");
}

function megabytes(octets: number): string {
  return octets < 1_000_000 ? `${Math.ceil(octets / 1000)} kB` : `${(octets / 1_000_000).toFixed(1)} MB`;
}
