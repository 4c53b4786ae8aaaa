/** What `newleaf ca crl` and `newleaf ca import` do: a CRL is made where the root key is, and carried to the service. */
import { readFile } from "node:fs/promises";
import { issuerRevocationReasons } from "@newleaf/shared/api";
import { decodeBase64, pemDecode, pemEncode } from "@newleaf/shared/pem";
import { createFileExclusively } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import { openAuthority } from "../app.ts";
import { systemCaller } from "../authority/authority.ts";
import { importCrl, type Imported } from "../authority/revocation/import-crl.ts";
import { openIssuer, readIssuerCertificate, type Issuer } from "../ca/issuer.ts";
import { nextRootCrl, readCrlOf, type RootCrl } from "../ca/root-crl.ts";
import { loadConfig, resolveDataDir } from "../config.ts";
import { isFounded } from "../data-directory.ts";
import { readPrivateKey } from "../keys/load-issuer.ts";
import { decryptPrivateKey } from "../keys/private-key.ts";
import type { AdminContext, AdminOptions } from "./admin-command.ts";
import type { IssuerAnswer } from "./answers.ts";
import { requireOwner } from "./operator/data-owner.ts";
import { asJson, moment } from "./output.ts";
import { confirm, type Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";
import { systemCause } from "./system-error.ts";

export interface CrlOptions {
  readonly rootKey: string;
  readonly root: string;
  readonly previousCrl: string;
  readonly revoke: readonly string[];
  readonly reason: string;
  readonly out: string;
  readonly passphraseFile?: string;
  readonly yes?: boolean;
  readonly json?: boolean;
}

/** @throws UsageError (files), AppError (what does not fit together) */
export async function makeCrl(terminal: Terminal, options: CrlOptions): Promise<void> {
  const root = readIssuerCertificate(await readBlock(options.root, "CERTIFICATE"));
  const previous = await readBlock(options.previousCrl, "X509 CRL");
  // Whatever does not fit together is found before anybody types a passphrase.
  readCrlOf(root, previous);
  const revoke = await Promise.all(
    options.revoke.map(async (file) => ({
      certificate: await readBlock(file, "CERTIFICATE"),
      reason: reasonOf(options.reason),
    })),
  );
  const issuer = await openRoot(terminal, root.certificate, options);
  const made = nextRootCrl({ issuer, previous, revoke, now: terminal.clock.now() });
  if (options.json !== true || options.yes !== true) terminal.err(crlText(root.id, made, options.reason));
  if (!(await confirm(terminal, "Sign it? A CRL takes nobody back: the issuer is refused for good.", options.yes)))
    return;
  await createFileExclusively(options.out, pemEncode("X509 CRL", made.der), { mode: 0o644 }).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    throw new UsageError(`--out ${options.out} is there already; name another file`);
  });
  const { number, thisUpdate, nextUpdate, added } = made;
  const facts = {
    issuer: root.id,
    number,
    thisUpdate: new Date(thisUpdate).toISOString(),
    nextUpdate: new Date(nextUpdate).toISOString(),
    revoked: added.map(({ id, serial }) => ({ issuer: id, serial })),
    file: options.out,
  };
  terminal.out(
    options.json === true
      ? asJson(facts)
      : `${options.out}: CRL ${number} of ${root.id}\nNow, at the service: newleaf ca import ${options.out}\n`,
  );
}

function crlText(root: string, { number, nextUpdate, added, entries }: RootCrl, reason: string): string {
  const news = added.map(
    ({ id, serial, notAfter }) =>
      `  revokes   issuer ${id}, serial ${serial}, until ${new Date(notAfter).toISOString()} (${reason})\n`,
  );
  return `CRL ${number} of ${root}
${news.join("")}  keeps     ${entries.length - added.length} revoked before
  lives     until ${moment(new Date(nextUpdate).toISOString())}
`;
}

async function openRoot(terminal: Terminal, certificate: Uint8Array, options: CrlOptions): Promise<Issuer> {
  const text = await read(options.rootKey);
  if (!text.includes("ENCRYPTED PRIVATE KEY")) return openIssuer(certificate, readPrivateKey(options.rootKey));
  const key = decryptPrivateKey(text.toString("utf8"), await passphraseOf(terminal, options.passphraseFile));
  return openIssuer(certificate, key);
}

async function passphraseOf(terminal: Terminal, file: string | undefined): Promise<string> {
  if (file !== undefined) return (await read(file)).toString("utf8").replace(/\r?\n$/, "");
  if (!terminal.isInteractive) {
    throw new UsageError(
      "The root key is encrypted, and there is no terminal to ask for its passphrase on; give --passphrase-file FILE",
    );
  }
  return terminal.askSecret("Passphrase of the root key: ");
}

function reasonOf(text: string) {
  const reason = issuerRevocationReasons.find((candidate) => candidate === text);
  if (reason === undefined) throw new UsageError(`--reason ${text} is none that a CA is revoked for`);
  return reason;
}

export interface ImportOptions {
  readonly issuer?: string;
  readonly offline?: boolean;
}

/** @throws UsageError, AppError of the admin API, or of `importCrl` when offline */
export async function importFile(context: AdminContext<AdminOptions & ImportOptions>, file: string): Promise<void> {
  const { client, terminal, options, json, confirm: ask } = context;
  const der = await readBlock(file, "X509 CRL");
  if (!(await ask(`Take ${file} into force? Every agent fetches it.`))) return;
  if (options.offline === true) {
    const { crl, lists } = await importOffline(terminal, options.data, options.issuer, der);
    terminal.out(importedText({ issuer: crl.issuerId, number: crl.number }, lists));
    return;
  }
  const roots = options.issuer === undefined ? await client.list<IssuerAnswer>("/v1/issuers") : [];
  const issuer = options.issuer ?? onlyRoot(roots.filter(({ kind }) => kind === "root").map(({ id }) => id));
  const answer = await client.post<{ crl: { issuer: string; number: number }; lists: string[] }>(
    `/v1/issuers/${encodeURIComponent(issuer)}/crl`,
    { crl: pemEncode("X509 CRL", der) },
  );
  terminal.out(json ? asJson(answer) : importedText(answer.crl, answer.lists));
}

async function importOffline(
  terminal: Terminal,
  data: string | undefined,
  issuer: string | undefined,
  der: Uint8Array,
): Promise<Imported> {
  const dataDir = resolveDataDir(data, terminal.env);
  if (!isFounded(dataDir)) throw new AppError("not-found", `There is no certification authority in ${dataDir}`);
  requireOwner(dataDir, "newleaf ca import …");
  const config = loadConfig({ dataDir, env: terminal.env });
  await using stack = new AsyncDisposableStack();
  const authority = await openAuthority(stack, config, { clock: terminal.clock });
  const roots = authority.issuers.rows.filter(({ kind }) => kind === "root").map(({ id }) => id);
  // Awaited here: the store closes with this scope.
  return await importCrl(
    authority,
    { ...systemCaller("ca-import"), actor: "ceremony" },
    issuer ?? onlyRoot(roots),
    der,
  );
}

function onlyRoot(roots: readonly string[]): string {
  const [root, ...more] = roots;
  if (root === undefined || more.length > 0)
    throw new UsageError(`Say whose CRL it is with --issuer: ${roots.join(", ") || "see newleaf ca list"}`);
  return root;
}

function importedText(
  { issuer, number }: { readonly issuer: string; readonly number: number },
  lists: readonly string[],
): string {
  const what = lists.length === 0 ? "It lists no issuer of this service." : `It revokes ${lists.join(", ")}.`;
  return `CRL ${number} of ${issuer} is in force. ${what}\n`;
}

/** One PEM block of this label, or DER. */
async function readBlock(file: string, label: "CERTIFICATE" | "X509 CRL"): Promise<Buffer> {
  const bytes = await read(file);
  // DER of either begins with a SEQUENCE of a long length.
  if (bytes[0] === 0x30 && (bytes[1] ?? 0) > 0x80) return bytes;
  const text = bytes.toString("utf8");
  const [first, ...more] = pemDecode(text, label);
  if (more.length > 0) throw new UsageError(`${file} has several ${label} blocks; give each in a file of its own`);
  if (first !== undefined) return first;
  if (text.includes("-----BEGIN")) throw new UsageError(`${file} has no ${label} block`);
  try {
    return decodeBase64(text, label);
  } catch (error) {
    throw new UsageError(`${file} holds no ${label} block in PEM, and is no DER`, { cause: error });
  }
}

async function read(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${systemCause(error)})`, {
      cause: error,
    });
  }
}
