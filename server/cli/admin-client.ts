/** The command line's way to the admin API: finds the service, speaks as an operator, keeps the operator's certificate fresh. */
import { type HttpResponse, NetworkError, requestJson } from "@newleaf/shared/http-client";
import { AppError } from "@newleaf/shared/problems";
import { version } from "../version.ts";
import { type OperatorFiles, readOperatorFiles } from "./operator/files.ts";
import { isRenewalDue, renewOperator } from "./operator/renewal.ts";
import { type Connection, resolveStandpoint, type Service } from "./operator/session.ts";
import type { Terminal } from "./terminal.ts";

export type Query = Readonly<Record<string, string | number | undefined>>;

/** `T` is what the API's document says; the service is of the same version. */
export interface AdminClient {
  get<T>(path: string, query?: Query): Promise<T>;
  /** All pages, or the first `limit` items. */
  list<T>(path: string, query?: Query, limit?: number): Promise<T[]>;
  /** The same as CSV, page by page, the headings once. */
  csv(path: string, query?: Query, limit?: number): AsyncGenerator<string>;
  post<T>(path: string, body?: unknown): Promise<T>;
  patch<T>(path: string, body: unknown): Promise<T>;
  remove<T>(path: string): Promise<T>;
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
  const ask = async (path: string, asked: Omit<Call, "url">): Promise<HttpResponse> => {
    opened ??= openSession(terminal, connection);
    const { service, files } = await opened;
    return send(service, files, { ...asked, url: new URL(path, service.admin) });
  };
  const call = async <T>(method: Call["method"], path: string, body?: unknown): Promise<T> =>
    (await ask(path, { method, ...(body === undefined ? {} : { body }) })).body as T;
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
    async *csv(path, query = {}, limit = Infinity) {
      let left = limit;
      let next: string | null = withQuery(path, { ...query, limit: Math.min(pageSize, left) });
      for (let isFirst = true; next !== null && left > 0; isFirst = false) {
        const { body, headers }: HttpResponse = await ask(next, { method: "GET", headers: { accept: "text/csv" } });
        const lines = String(body);
        // No heading has a line break in it.
        yield isFirst ? lines : lines.slice(lines.indexOf("\n") + 1);
        left -= pageSize;
        next = nextPage(headers["link"], Math.min(pageSize, left));
      }
    },
    post: (path, body) => call("POST", path, body),
    patch: (path, body) => call("PATCH", path, body),
    remove: (path) => call("DELETE", path),
  };
}

async function openSession(terminal: Terminal, connection: Connection): Promise<Session> {
  const standpoint = resolveStandpoint(connection, terminal.env);
  const service = standpoint.service();
  const files = await readOperatorFiles(standpoint.operator);
  const now = terminal.clock.now();
  if (!isRenewalDue(files.leaf, now)) return { service, files };
  const until = files.leaf.validToDate;
  if (until.getTime() <= now) {
    throw new AppError(
      "certificate-expired",
      `The operator certificate in ${standpoint.operator} expired on ${until.toISOString()}. ${standpoint.expiredHint}`,
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
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

async function send(service: Service, files: OperatorFiles, call: Call): Promise<HttpResponse> {
  const { serverName } = service;
  try {
    return await requestJson({
      ...call,
      headers: { "x-newleaf-client": `newleaf/${version}`, ...call.headers },
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

/** Where a list goes on (RFC 8288), for at most `limit` rows; null at its end. */
function nextPage(link: string | string[] | undefined, limit: number): string | null {
  const [, path] = /^<([^>]+)>; rel="next"$/.exec(String(link ?? "")) ?? [];
  if (path === undefined || limit <= 0) return null;
  const url = new URL(path, "https://localhost");
  url.searchParams.set("limit", String(limit));
  return `${url.pathname}${url.search}`;
}

function withQuery(path: string, query: Query = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  return search.size === 0 ? path : `${path}?${search.toString()}`;
}
