/** An agent made of nothing but curl and openssl. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface CurlAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
  /** Parsed where it is JSON. */
  readonly body: Record<string, unknown>;
}

export interface CurlRequest {
  readonly url: string;
  readonly rootsFile: string;
  /** Client certificate chain and key files. */
  readonly cert?: string;
  readonly key?: string;
  /** Sent as the JSON body of a POST. */
  readonly json?: unknown;
  /** Sent as it is, from a file. */
  readonly rawFile?: string;
  readonly headers?: readonly string[];
}

export async function curl(request: CurlRequest): Promise<CurlAnswer> {
  const args = ["-sS", "--max-time", "20", "--cacert", request.rootsFile, "-w", "\n%{http_code} %{content_type}"];
  if (request.cert !== undefined) args.push("--cert", request.cert);
  if (request.key !== undefined) args.push("--key", request.key);
  for (const header of request.headers ?? []) args.push("-H", header);
  if (request.json !== undefined) {
    const file = join("/tmp", `newleaf-curl-${randomUUID()}.json`);
    await writeFile(file, JSON.stringify(request.json), { mode: 0o600 });
    args.push("-H", "Content-Type: application/json", "--data-binary", `@${file}`);
  }
  if (request.rawFile !== undefined)
    args.push("-H", "Content-Type: application/json", "--data-binary", `@${request.rawFile}`);
  const { stdout } = await run("curl", [...args, request.url], { maxBuffer: 64 * 1024 * 1024 });
  const split = stdout.lastIndexOf("\n");
  const [status = "0", contentType = ""] = stdout.slice(split + 1).split(" ");
  const text = stdout.slice(0, split);
  const isJson = contentType.includes("json");
  return {
    status: Number(status),
    contentType,
    text,
    body: isJson ? (JSON.parse(text) as Record<string, unknown>) : {},
  };
}

export async function openssl(...args: readonly string[]): Promise<string> {
  const { stdout } = await run("openssl", [...args], { maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}

export interface KeyAndRequest {
  readonly keyFile: string;
  readonly csr: string;
}

/** A key made by openssl and a request signed with it. `algorithm` as for `openssl req -newkey`. */
export async function makeRequest(
  dir: string,
  {
    subject = "/",
    san,
    algorithm = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  }: { subject?: string; san?: string; algorithm?: readonly string[] } = {},
): Promise<KeyAndRequest> {
  const base = join(dir, randomUUID());
  const extension = san === undefined ? [] : ["-addext", `subjectAltName=${san}`];
  await openssl(
    "req",
    "-new",
    "-newkey",
    ...algorithm,
    "-nodes",
    "-keyout",
    `${base}.key.pem`,
    "-out",
    `${base}.csr.pem`,
    "-subj",
    subject,
    ...extension,
  );
  return { keyFile: `${base}.key.pem`, csr: await readFile(`${base}.csr.pem`, "utf8") };
}

/** Another request with a key that exists. */
export async function requestWith(
  dir: string,
  keyFile: string,
  { subject = "/", san }: { subject?: string; san?: string } = {},
): Promise<string> {
  const file = join(dir, `${randomUUID()}.csr.pem`);
  await openssl(
    "req",
    "-new",
    "-key",
    keyFile,
    "-out",
    file,
    "-subj",
    subject,
    ...(san === undefined ? [] : ["-addext", `subjectAltName=${san}`]),
  );
  return readFile(file, "utf8");
}

/** What a host holds: key file and the certificate chain as a file. */
export interface Holder {
  readonly keyFile: string;
  readonly chainFile: string;
  readonly serial: string;
  readonly answer: Record<string, unknown>;
}

/** Keeps a certificate answer the way a script would. */
export async function keep(dir: string, keyFile: string, answer: Record<string, unknown>): Promise<Holder> {
  const chainFile = join(dir, `${randomUUID()}.chain.pem`);
  await writeFile(chainFile, `${String(answer["certificate"])}${String(answer["chain"])}`);
  return { keyFile, chainFile, serial: String(answer["serial"]), answer };
}
