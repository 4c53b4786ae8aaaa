/**
 * `newleaf login`: an operator's certificate on whatever machine he sits at. The key is made here and never leaves.
 *
 * Safe to repeat: the key is durable, under a name that follows from the token, before anything is sent. Whoever asks again after a lost
 * answer asks with the same key, and gets the same certificate.
 */
import { createPrivateKey, hash, type KeyObject, X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { CertificateAnswer, PendingAnswer } from "@newleaf/shared/api";
import { paths } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { makeDirectory, syncDirectory } from "@newleaf/shared/durable-file";
import { fingerprint, keyFingerprint } from "@newleaf/shared/fingerprint";
import { NetworkError, type HttpResponse, requestJson } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { isIdentityId } from "@newleaf/shared/names";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import { AppError, type ProblemCode } from "@newleaf/shared/problems";
import { LockTakenError, takeProcessLock } from "@newleaf/shared/process-lock";
import { readToken } from "@newleaf/shared/token";
import { adminClient } from "../admin-client.ts";
import type { OperatorAnswer } from "../answers.ts";
import {
  isLogin,
  listLogins,
  type LoginProfile,
  type LoginRecord,
  loginsDirectory,
  readLogin,
  writeLogin,
} from "./login-profile.ts";
import { readNextKey, readOperatorFiles, switchToNext, writeNextKey } from "./files.ts";
import { moment } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { UsageError } from "../usage-error.ts";
import { systemCause } from "../system-error.ts";

export interface LoginOptions {
  readonly server?: string;
  readonly enrollment?: string;
  readonly agents?: string;
  readonly roots?: string;
  readonly tokenFile?: string;
  readonly name?: string;
}

const timeoutMs = 20_000;
const maxBytes = 1_000_000;
const firstPollMs = 500;
const longestPollMs = 30_000;

type Urls = Omit<LoginRecord, "operator">;

/** @throws UsageError, AppError (token-invalid, enrollment-denied, conflict …), NetworkError */
export async function login(terminal: Terminal, options: LoginOptions): Promise<void> {
  if (options.name !== undefined && !isIdentityId(options.name))
    throw new UsageError(
      `--name ${options.name} is a plain name: a letter or digit, then up to 63 of A-Z a-z 0-9 . _ @ -`,
    );
  if (options.tokenFile === undefined) return recover(terminal, options);
  if (options.server === undefined) throw new UsageError("--server URL is needed: the admin listener of the service");
  const token = await readTokenFile(options.tokenFile);
  const { rootFingerprint, secretHash } = readToken(token);
  const urls = readUrls(options.server, options);
  const logins = loginsDirectory(terminal.env);
  const stage = join(logins, `.login-${hash("sha256", `${secretHash} ${urls.enrollment}`).slice(0, 16)}`);
  await makeDirectory(logins, 0o700);
  await using held = new AsyncDisposableStack();
  held.use(await lockDirectory(logins, "login"));
  const roots =
    options.roots === undefined
      ? await meetRoot(urls.enrollment, rootFingerprint)
      : readFileSync(options.roots, "utf8");
  await makeDirectory(stage, 0o700);
  if (!existsSync(join(stage, "current"))) {
    const key = await readOrMakeKey(stage);
    terminal.err(`key ${keyFingerprint(key)}\n`);
    const body = { csr: pemEncode("CERTIFICATE REQUEST", createCsr({ key })), token, claim: "newleaf login" };
    const answer = await askUntilDecided(terminal, { urls, roots, body }).catch(droppingRefused(stage));
    refuseForeignKey(answer, keyFingerprint(key));
    await switchToNext(stage, answer.certificate + answer.chain);
  }
  const { leaf } = await readOperatorFiles(stage);
  const record = { ...urls, operator: identityOf(leaf) };
  await writeLogin(stage, record, roots);
  const role = await firstUse(terminal, stage, record.operator).catch(droppingRefused(stage));
  const directory = await place(stage, join(logins, options.name ?? record.operator), record, roots);
  sayDone(terminal, readLogin(directory), leaf, role);
}

/** After these answers asking again helps nobody: the key that was made for it goes. */
const finalRefusals: readonly ProblemCode[] = ["token-invalid", "enrollment-denied", "not-permitted"];

function droppingRefused(stage: string): (error: unknown) => Promise<never> {
  return async (error) => {
    if (error instanceof AppError && finalRefusals.includes(error.code)) await rm(stage, { recursive: true });
    throw error;
  };
}

async function readOrMakeKey(stage: string): Promise<KeyObject> {
  const begun = await readNextKey(stage);
  if (begun !== null) return begun;
  const key = await generateKey("ecdsa-p256");
  await writeNextKey(stage, key);
  return key;
}

/** Makes what is complete in `stage` the login of that directory, or the new certificate of the same login. */
async function place(stage: string, directory: string, record: LoginRecord, roots: string): Promise<string> {
  if (existsSync(directory)) {
    refuseOtherLogin(directory, record);
    const files = await readOperatorFiles(stage);
    await rm(join(directory, "next"), { recursive: true, force: true });
    await writeNextKey(directory, createPrivateKey(files.key));
    await switchToNext(directory, files.chain);
    await writeLogin(directory, record, roots);
    await rm(stage, { recursive: true });
  } else {
    await rename(stage, directory);
  }
  await syncDirectory(dirname(directory));
  return directory;
}

/** Without a token: an admin granted a recovery to the key that this login has. */
async function recover(terminal: Terminal, options: LoginOptions): Promise<void> {
  const logins = listLogins(terminal.env);
  const name = options.name ?? (logins.length === 1 ? logins[0] : undefined);
  if (name === undefined || !logins.includes(name)) {
    const known = logins.length === 0 ? "there is no login yet" : `the logins are ${logins.join(", ")}`;
    throw new UsageError(
      `A first login needs --server URL and --token-file FILE; to recover one whose certificate is over, say which with --name NAME (${known})`,
    );
  }
  const directory = join(loginsDirectory(terminal.env), name);
  const profile = readLogin(directory);
  await using held = new AsyncDisposableStack();
  held.use(await lockDirectory(directory, "renewing"));
  const files = await readOperatorFiles(directory);
  if (files.leaf.validToDate.getTime() > terminal.clock.now())
    throw new AppError(
      "conflict",
      `The certificate of ${name} is good until ${files.leaf.validToDate.toISOString()}: there is nothing to recover. With a new token: newleaf login --server ${profile.server} --name ${name} --token-file FILE`,
    );
  const key = createPrivateKey(files.key);
  const csr = pemEncode("CERTIFICATE REQUEST", createCsr({ key }));
  const { roots } = profile;
  const answer = await askUntilDecided(terminal, {
    urls: profile,
    roots,
    body: { csr, claim: `${name}, newleaf login` },
  });
  refuseForeignKey(answer, keyFingerprint(key));
  await rm(join(directory, "next"), { recursive: true, force: true });
  await writeNextKey(directory, key);
  await switchToNext(directory, answer.certificate + answer.chain);
  const { leaf } = await readOperatorFiles(directory);
  sayDone(terminal, profile, leaf, await firstUse(terminal, directory, profile.operator));
}

interface Ask {
  readonly urls: Urls;
  readonly roots: string;
  readonly body: Readonly<Record<string, string>>;
}

/** Where a second operator has to agree the request waits; whoever gives up and asks again finds the same one. */
async function askUntilDecided(terminal: Terminal, ask: Ask): Promise<CertificateAnswer> {
  const send = (method: "GET" | "POST", path: string, body?: unknown): Promise<HttpResponse> =>
    requestJson({
      url: new URL(path, ask.urls.enrollment),
      method,
      ...(body === undefined ? {} : { body }),
      tls: { ca: ask.roots },
      timeoutMs,
      maxBytes,
    });
  let response = await send("POST", paths.enrollments, ask.body);
  if (response.status === 202) {
    const { id } = response.body as PendingAnswer;
    terminal.err(`waits for another operator, request ${id}: newleaf approvals show ${id}\n`);
    // The other operator may sit at the next desk: the first look comes soon, those after it when the service says.
    for (let pause = firstPollMs; response.status === 202;) {
      await sleep(pause);
      const seconds = Number(response.headers["retry-after"]);
      pause = Math.min(longestPollMs, (Number.isFinite(seconds) ? seconds : 5) * 1000);
      response = await send("GET", paths.enrollment(id));
    }
  }
  return response.body as CertificateAnswer;
}

function refuseForeignKey(answer: CertificateAnswer, key: string): void {
  const leaf = new X509Certificate(answer.certificate);
  const held = fingerprint(leaf.publicKey.export({ type: "spki", format: "der" }));
  if (held !== key)
    throw new AppError("conflict", "The service answered with a certificate for another key; nothing was kept");
}

function refuseOtherLogin(directory: string, record: LoginRecord): void {
  if (!isLogin(directory))
    throw new AppError("conflict", `${directory} is there and no login; choose another name with --name`);
  const present = readLogin(directory);
  if (present.operator === record.operator && new URL(present.server).href === new URL(record.server).href) return;
  throw new AppError(
    "conflict",
    `${directory} is the login of ${present.operator} at ${present.server}; choose another name with --name and run the same again`,
  );
}

/** The first request with the new certificate. @returns the operator's role */
async function firstUse(terminal: Terminal, directory: string, operator: string): Promise<string> {
  try {
    const path = `/v1/operators/${encodeURIComponent(operator)}`;
    return (await adminClient(terminal, { as: directory }).get<OperatorAnswer>(path)).role;
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "not-permitted") throw error;
    throw new AppError(
      "not-permitted",
      `${operator} is no operator of this service: its token, which is spent now, was for a host (newleaf-agent enroll): make another one for it`,
      { cause: error },
    );
  }
}

function sayDone(
  terminal: Terminal,
  { name, server, operator }: LoginProfile,
  leaf: X509Certificate,
  role: string,
): void {
  const until = moment(leaf.validToDate.toISOString(), terminal.clock.now());
  terminal.out(
    `Logged in at ${server} as ${operator}, role ${role}, until ${until}; the certificate renews itself while it is used.\n` +
      `Commands speak as ${operator} where there is no data directory, or with --as ${name}.\n`,
  );
}

/** The subject's CN is the identity's id. */
function identityOf(leaf: X509Certificate): string {
  const id = /^CN=(.+)$/m.exec(leaf.subject)?.[1] ?? "";
  if (!isIdentityId(id)) throw new AppError("conflict", "The service's answer is a certificate of nobody");
  return id;
}

async function lockDirectory(directory: string, name: string): Promise<AsyncDisposable> {
  try {
    return await takeProcessLock(directory, name, `newleaf login (pid ${process.pid})`);
  } catch (error) {
    if (!(error instanceof LockTakenError)) throw error;
    throw new AppError(
      "conflict",
      `Another command is at work in ${directory}: ${error.holder}; try again when it has ended`,
    );
  }
}

/** The root that the token names, from whoever answers: its fingerprint is what proves it. Everything after this is verified with it. */
async function meetRoot(enrollment: string, rootFingerprint: string): Promise<string> {
  const { body } = await requestJson({
    url: new URL(paths.roots, enrollment),
    method: "GET",
    tls: { rejectUnauthorized: false },
    timeoutMs,
    maxBytes,
  }).catch((error: unknown) => {
    if (!(error instanceof NetworkError)) throw error;
    const hint = `Is the service's enrollment listener there, and open to this machine (listen.enrollment in newleaf.yml)? --enrollment URL says where it is`;
    throw new NetworkError(error.fault, `${error.message}. ${hint}`, { cause: error });
  });
  const offered = typeof body === "string" ? pemDecode(body, "CERTIFICATE") : [];
  const root = offered.find((der) => fingerprint(der) === rootFingerprint);
  if (root === undefined) {
    throw new AppError(
      "certificate-not-trusted",
      `What answers at ${enrollment} does not have the root ${rootFingerprint} of the token: the token is another service's, or something else answers in its place. Nothing was sent`,
    );
  }
  return pemEncode("CERTIFICATE", root);
}

/** The listeners keep the distance of the defaults (admin 8445, enrollment 8444, agents 8443) unless it is said where they are. */
export function readUrls(server: string, { enrollment, agents }: Pick<LoginOptions, "enrollment" | "agents">): Urls {
  const admin = readUrl("--server", server);
  const beside = (distance: number): string => {
    const url = new URL(admin);
    const port = Number(admin.port === "" ? 443 : admin.port) - distance;
    if (port < 1) throw new UsageError(`Say where the other listeners of ${server} are: --enrollment URL --agents URL`);
    url.port = String(port);
    return url.origin;
  };
  return {
    server: admin.origin,
    enrollment: enrollment === undefined ? beside(1) : readUrl("--enrollment", enrollment).origin,
    agents: agents === undefined ? beside(2) : readUrl("--agents", agents).origin,
  };
}

function readUrl(option: string, text: string): URL {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "https:") throw new UsageError(`${option} ${text} must be an https:// URL`);
  return url;
}

async function readTokenFile(file: string): Promise<string> {
  if (file !== "-") {
    try {
      return readFileSync(file, "utf8").trim();
    } catch (error) {
      throw new UsageError(`--token-file ${file} cannot be read (${systemCause(error)})`, {
        cause: error,
      });
    }
  }
  const lines = createInterface({ input: process.stdin });
  try {
    for await (const line of lines) if (line.trim() !== "") return line.trim();
    throw new UsageError("There is no token on stdin");
  } finally {
    lines.close();
    process.stdin.destroy();
  }
}
