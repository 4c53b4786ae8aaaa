/** The command line's way to the admin API: finds the service, speaks as an operator, keeps the operator's certificate fresh. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { type HttpResponse, NetworkError, requestJson } from "@newleaf/shared/http-client";
import { AppError } from "@newleaf/shared/problems";
import { resolveDataDir } from "../config.ts";
import { parseAddress } from "../config-tree.ts";
import { isFounded } from "../data-directory.ts";
import { version } from "../version.ts";
import { type OperatorFiles, readOperatorFiles } from "./operator-files.ts";
import { isRenewalDue, renewOperator } from "./operator-renewal.ts";
import type { Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

export interface Connection {
  readonly data?: string;
  /** Operator id, or a directory with key.pem and chain.pem. */
  readonly as?: string;
  /** URL of the admin listener, for a service whose data directory is not here. */
  readonly server?: string;
  /** PEM file of the roots to trust, with `server`. */
  readonly roots?: string;
}

export type Query = Readonly<Record<string, string | number | undefined>>;

/** `T` is what the API's document says; the service is of the same version. */
export interface AdminClient {
  get<T>(path: string, query?: Query): Promise<T>;
  /** All pages, or the first `limit` items. */
  list<T>(path: string, query?: Query, limit?: number): Promise<T[]>;
  post<T>(path: string, body?: unknown): Promise<T>;
  patch<T>(path: string, body: unknown): Promise<T>;
  remove<T>(path: string): Promise<T>;
}

interface Service {
  readonly admin: URL;
  /** Null when it is not known: then nothing is renewed. */
  readonly agents: URL | null;
  readonly roots: string;
  /** Name that the service's certificate is checked for. */
  readonly serverName: string | undefined;
  readonly startHint: string;
}

interface Session {
  readonly service: Service;
  readonly files: OperatorFiles;
}

const timeoutMs = 30_000;
const maxBytes = 64 * 1024 * 1024;
const pageSize = 500;

/** Nothing is read or sent before the first call. */
export function adminClient(terminal: Terminal, connection: Connection): AdminClient {
  let opened: Promise<Session> | undefined;
  const call = async <T>(method: "GET" | "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<T> => {
    opened ??= openSession(terminal, connection);
    const { service, files } = await opened;
    const url = new URL(path, service.admin);
    const answer = await send(service, files, { url, method, ...(body === undefined ? {} : { body }) });
    return answer.body as T;
  };
  return {
    get: (path, query) => call("GET", withQuery(path, query)),
    async list<T>(path: string, query: Query = {}, limit = Infinity) {
      const items: T[] = [];
      let cursor: string | undefined;
      do {
        const page: { items: T[]; nextCursor: string | null } = await call(
          "GET",
          withQuery(path, { ...query, cursor, limit: Math.min(pageSize, limit - items.length) }),
        );
        items.push(...page.items);
        cursor = page.nextCursor ?? undefined;
      } while (cursor !== undefined && items.length < limit);
      return items;
    },
    post: (path, body) => call("POST", path, body),
    patch: (path, body) => call("PATCH", path, body),
    remove: (path) => call("DELETE", path),
  };
}

async function openSession(terminal: Terminal, connection: Connection): Promise<Session> {
  const dataDir = resolveDataDir(connection.data, terminal.env);
  const service = connection.server === undefined ? localService(dataDir) : remoteService(connection, dataDir);
  const directory = operatorDirectory(connection.as, dataDir);
  const files = await readOperatorFiles(directory);
  const now = terminal.clock.now();
  if (!isRenewalDue(files.leaf, now)) return { service, files };
  const until = files.leaf.validToDate;
  if (until.getTime() <= now) {
    throw new AppError(
      "certificate-expired",
      `The operator certificate in ${directory} expired on ${until.toISOString()}. Use another operator's with --as, or have another admin grant a recovery`,
    );
  }
  return { service, files: await renewed(terminal, service, files) };
}

/** A renewal that fails now is tried by the next command; this one is done with the certificate there is. */
async function renewed(terminal: Terminal, service: Service, files: OperatorFiles): Promise<OperatorFiles> {
  const { agents } = service;
  const until = files.leaf.validToDate.toISOString();
  if (agents === null) {
    terminal.err(
      `warning: the operator certificate ends on ${until} and the agents listener, which renews it, is not known\n`,
    );
    return files;
  }
  try {
    return await renewOperator(files, (holder, path, body) =>
      send(service, holder, { url: new URL(path, agents), method: "POST", body }),
    );
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    terminal.err(`warning: the operator certificate ends on ${until} and could not be renewed: ${why}\n`);
    return files;
  }
}

interface Call {
  readonly url: URL;
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly body?: unknown;
}

async function send(service: Service, files: OperatorFiles, call: Call): Promise<HttpResponse> {
  const { serverName } = service;
  try {
    return await requestJson({
      ...call,
      headers: { "x-newleaf-client": `newleaf/${version}` },
      tls: {
        ca: service.roots,
        cert: files.chain,
        key: files.key,
        ...(serverName === undefined ? {} : { servername: serverName }),
      },
      timeoutMs,
      maxBytes,
    });
  } catch (error) {
    if (!(error instanceof NetworkError) || error.fault !== "unreachable") throw error;
    throw new NetworkError(
      error.fault,
      `The service does not answer at ${call.url.host}. ${service.startHint} (${error.message})`,
      { cause: error },
    );
  }
}

/** By what `serve` wrote into the data directory. */
function localService(dataDir: string): Service {
  const startHint = `Start it with: newleaf serve --data ${dataDir}`;
  const runFile = join(dataDir, "run.json");
  if (!isFounded(dataDir)) {
    throw new AppError(
      "not-found",
      `There is no Newleaf data directory at ${dataDir}. Say where it is with --data, or speak to a service elsewhere with --server and --roots`,
    );
  }
  if (!existsSync(runFile)) throw new AppError("not-found", `The service of ${dataDir} is not running. ${startHint}`);
  const run = JSON.parse(readFileSync(runFile, "utf8")) as { readonly listeners: Readonly<Record<string, unknown>> };
  const admin = listenerUrl(run.listeners["admin"]);
  if (admin === null) throw new AppError("not-found", `${runFile} names no admin listener. ${startHint}`);
  return {
    admin,
    agents: listenerUrl(run.listeners["agents"]),
    roots: readFileSync(join(dataDir, "roots.pem"), "utf8"),
    // The address is the service's own word; its certificate names localhost whatever address it is reached by.
    serverName: "localhost",
    startHint,
  };
}

function remoteService(connection: Connection, dataDir: string): Service {
  const admin = URL.parse(connection.server ?? "");
  if (admin === null || admin.protocol !== "https:")
    throw new UsageError(`--server ${connection.server ?? ""} must be an https:// URL of the admin listener`);
  const rootsFile = connection.roots ?? join(dataDir, "roots.pem");
  if (!existsSync(rootsFile))
    throw new UsageError(
      "--server needs --roots FILE: the PEM file of the root that the service's certificate comes from",
    );
  const agents = new URL(admin);
  agents.port = String(Number(admin.port === "" ? 443 : admin.port) - 2);
  return {
    admin,
    // Listeners keep the distance of the defaults, 8443 and 8445, where nobody moved them.
    agents: admin.port === "8445" ? agents : null,
    roots: readFileSync(rootsFile, "utf8"),
    serverName: undefined,
    startHint: "Is it running, and is this its admin listener?",
  };
}

function listenerUrl(value: unknown): URL | null {
  const address = typeof value === "string" ? parseAddress(value.replace(/^https?:\/\//, "").replace(/\/$/, "")) : null;
  if (address === null) return null;
  // An unspecified address is one to listen on, not one to call.
  const host = address.host === "0.0.0.0" ? "127.0.0.1" : address.host === "::" ? "::1" : address.host;
  return new URL(`https://${isIP(host) === 6 ? `[${host}]` : host}:${address.port}`);
}

function operatorDirectory(as: string | undefined, dataDir: string): string {
  const operators = join(dataDir, "operators");
  if (as !== undefined) {
    if (existsSync(join(operators, as, "key.pem"))) return join(operators, as);
    if (existsSync(as)) return resolve(as);
    throw new AppError(
      "not-found",
      `--as ${as} is neither an operator in ${operators} nor a directory with key.pem and chain.pem`,
    );
  }
  const [only, ...others] = existsSync(operators) ? readdirSync(operators).toSorted() : [];
  if (only === undefined)
    throw new AppError("not-found", `There is no operator in ${operators}. Say who you are with --as DIRECTORY`);
  if (others.length > 0)
    throw new UsageError(`There are several operators (${[only, ...others].join(", ")}); say who you are with --as ID`);
  return join(operators, only);
}

function withQuery(path: string, query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  return search.size === 0 ? path : `${path}?${search.toString()}`;
}
