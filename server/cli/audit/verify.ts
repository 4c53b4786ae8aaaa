/** `newleaf audit verify`: the service's log or a copy, with the checkpoints that were kept elsewhere. A copy needs no service. */
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pemDecode } from "@newleaf/shared/pem";
import { AppError } from "@newleaf/shared/problems";
import type { Command } from "commander";
import { findCheckpoint, issuerKeys } from "../../audit-checkpoint.ts";
import { type AuditReport, createAuditVerifier, type GivenCheckpoint } from "../../audit-verify.ts";
import { resolveDataDir } from "../../config.ts";
import type { AuditRow } from "../../store/audit.ts";
import type { AdminClient } from "../admin-client.ts";
import { collect, readingCommand, withClient } from "../admin-command.ts";
import { chainOf, linesOf, textLines, witnessesOf } from "./copy.ts";
import { asJson } from "../output.ts";
import type { Connection } from "../operator/session.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";
import { systemCause } from "../system-error.ts";

interface VerifyOptions extends Connection {
  readonly file?: string;
  readonly checkpoints?: readonly string[];
  readonly issuer?: readonly string[];
}

/** A log with what it says of itself. */
interface Log {
  readonly checkpoints: readonly GivenCheckpoint[];
  /** DER. */
  readonly issuers: readonly Uint8Array[];
  readonly rows: AsyncIterable<readonly AuditRow[]>;
}

interface Trust {
  /** DER of the issuers whose checkpoints count. */
  readonly issuers: readonly Uint8Array[];
  readonly isLogItself: boolean;
}

/** In an error; `--json` has a hundred. */
const maxNamed = 20;
const rowsAtOnce = 1000;

export function addAuditVerify(group: Command, terminal: Terminal): void {
  readingCommand(group, {
    usage: "verify",
    summary: "check every row, of the service or of an exported copy, and compare with checkpoints kept elsewhere",
    examples: [
      "newleaf audit verify",
      "newleaf audit verify --checkpoints /mnt/elsewhere/newleaf-checkpoints",
      "newleaf audit verify --file audit.jsonl --checkpoints /var/log/syslog --issuer issuing-ca.pem",
    ],
    notes:
      "Exit code 1 when a row was altered, removed, moved or put in; it says which. What is behind the last checkpoint, and a log that was\nwritten anew from its first row, show only with checkpoints from another machine: see docs/audit.md.",
  })
    .option("--file <file>", "an exported copy instead of the service; needs no service")
    .option(
      "--checkpoints <file>",
      "checkpoints that were kept elsewhere: a checkpoint file or a syslog (may be repeated)",
      collect,
    )
    .option(
      "--issuer <file>",
      "PEM certificates of the issuers whose checkpoints count, or of a root that vouches for the log's (may be repeated; default: roots.pem)",
      collect,
    )
    .action(
      withClient<VerifyOptions>(terminal, async ({ client, options, json }) => {
        const log = options.file === undefined ? await liveLog(client) : await copiedLog(options.file);
        const trust = trustOf(log, options, terminal);
        const report = await verify(log, trust, await keptElsewhere(options.checkpoints ?? []));
        if (json) terminal.out(asJson(report));
        else if (report.ok) terminal.out(describe(report, trust));
        if (!report.ok) throw new AppError("conflict", complaint(report));
      }),
    );
}

async function verify(log: Log, trust: Trust, elsewhere: readonly GivenCheckpoint[]): Promise<AuditReport> {
  const verifier = createAuditVerifier({
    issuers: issuerKeys(trust.issuers),
    checkpoints: [...log.checkpoints, ...elsewhere],
  });
  for await (const rows of log.rows) verifier.add(rows);
  return verifier.end();
}

async function liveLog(client: AdminClient): Promise<Log> {
  const { checkpoints, issuers } = await witnessesOf(client);
  return {
    checkpoints: checkpoints.map(({ line, no }) => given(line, `checkpoint ${no} of the store`, false)),
    issuers: issuers.map(({ certificate }) => certificateOf(certificate, "the service's issuers")),
    rows: chainOf(client),
  };
}

/** Twice through the file: what vouches for a row may lie behind it. */
async function copiedLog(file: string): Promise<Log> {
  const checkpoints: GivenCheckpoint[] = [];
  const issuers: Uint8Array[] = [];
  const seen = new Set<string>();
  for await (const line of linesOf(file)) {
    if (line.kind === "issuer") issuers.push(certificateOf(line.certificate, line.place));
    if (line.kind !== "checkpoint" || seen.has(line.text)) continue;
    // Copies that were put together have the same ones more than once.
    seen.add(line.text);
    checkpoints.push(given(line.text, line.place, false));
  }
  return { checkpoints, issuers, rows: rowsOf(file) };
}

async function* rowsOf(file: string): AsyncGenerator<readonly AuditRow[]> {
  let page: AuditRow[] = [];
  for await (const line of linesOf(file)) {
    if (line.kind !== "row") continue;
    page.push(line.row);
    if (page.length < rowsAtOnce) continue;
    yield page;
    page = [];
  }
  yield page;
}

/** Every checkpoint in the files; lines that have none are passed over: a syslog is full of them. */
async function keptElsewhere(files: readonly string[]): Promise<readonly GivenCheckpoint[]> {
  const found: GivenCheckpoint[] = [];
  for (const file of files) {
    const before = found.length;
    let number = 0;
    for await (const line of textLines(file)) {
      number += 1;
      const checkpoint = findCheckpoint(line);
      if (checkpoint !== null) found.push({ checkpoint, place: `${file}, line ${number}`, offBox: true });
    }
    if (found.length === before) throw new UsageError(`${file} has no checkpoint in it: nothing could be compared`);
  }
  return found;
}

function given(line: string, place: string, offBox: boolean): GivenCheckpoint {
  const checkpoint = findCheckpoint(line);
  if (checkpoint === null) throw new AppError("conflict", `${place}, is no checkpoint: it was altered`);
  return { checkpoint, place, offBox };
}

/** Named certificates count themselves, and vouch for issuers of the log: so a root may be named as well. */
function trustOf(log: Log, { issuer, roots, data }: VerifyOptions, terminal: Terminal): Trust {
  if (issuer !== undefined) {
    const named = issuer.flatMap((file) => certificatesOf(file));
    return { issuers: [...named, ...vouchedFor(log, named)], isLogItself: false };
  }
  const file = roots ?? join(resolveDataDir(data, terminal.env), "roots.pem");
  if (!existsSync(file)) {
    if (roots !== undefined) throw new UsageError(`${roots} cannot be read`);
    return { issuers: log.issuers, isLogItself: true };
  }
  return { issuers: vouchedFor(log, certificatesOf(file)), isLogItself: false };
}

function vouchedFor(log: Log, authorities: readonly Uint8Array[]): readonly Uint8Array[] {
  const trusted = authorities.map((der) => new X509Certificate(der));
  return log.issuers.filter((der) => {
    const certificate = new X509Certificate(der);
    return trusted.some((root) => certificate.checkIssued(root) && certificate.verify(root.publicKey));
  });
}

function certificatesOf(file: string): readonly Uint8Array[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${systemCause(error)})`);
  }
  const found = pemDecode(text, "CERTIFICATE");
  if (found.length === 0) throw new UsageError(`${file} has no PEM certificate in it`);
  return found;
}

function certificateOf(pem: string, place: string): Uint8Array {
  const [der] = pemDecode(pem, "CERTIFICATE");
  if (der === undefined) throw new AppError("conflict", `${place}: an issuer has no certificate; the copy was altered`);
  return der;
}

function describe(report: AuditReport, trust: Trust): string {
  const { rows, lastSeq, lastHash, covered, unprotected, checkpoints } = report;
  const lines = [`The chain holds: ${rows} rows, the last one ${lastSeq ?? 0} with hash ${lastHash}`];
  if (covered === null) {
    lines.push("There is no checkpoint: a cut-off end or a log written anew would not show.");
  } else {
    lines.push(
      `Checkpoints: ${checkpoints}, all signed and true. The last, of ${covered.at} (${covered.place}), covers rows 1 to ${covered.seq}.`,
    );
    lines.push(`Rows after it, protected by the chain alone: ${unprotected}`);
  }
  if (trust.isLogItself && covered !== null) {
    lines.push(
      "The issuers come from the log itself: name them with --issuer, or the roots with --roots, to be sure of the signatures.",
    );
  }
  return `${lines.join("\n")}\n`;
}

function complaint({ findings, findingCount, covered }: AuditReport): string {
  const named = findings.slice(0, maxNamed).map(({ reason }) => `  ${reason}`);
  const more = findingCount - named.length;
  if (more > 0) named.push(`  and ${more} more`);
  const sure =
    covered === null
      ? ""
      : `\n  The last checkpoint that holds is of row ${covered.seq}, ${covered.at} (${covered.place})`;
  return `The audit log does not hold:\n${named.join("\n")}${sure}`;
}
