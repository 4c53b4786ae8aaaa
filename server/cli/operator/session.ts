/** Which service a command speaks to, and as whom: the data directory here, a login, or what the options say. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { AppError } from "@newleaf/shared/problems";
import { type Environment, resolveDataDir } from "../../config.ts";
import { parseAddress } from "../../config-tree.ts";
import { isFounded } from "../../data-directory.ts";
import { isLogin, listLogins, type LoginProfile, loginsDirectory, readLogin } from "./login-profile.ts";
import { UsageError } from "../usage-error.ts";

export interface Connection {
  readonly data?: string;
  /** Operator id, the name of a login, or a directory with key.pem and chain.pem. */
  readonly as?: string;
  /** URL of the admin listener, for a service whose data directory is not here. */
  readonly server?: string;
  /** PEM file of the roots to trust, with `server`. */
  readonly roots?: string;
}

export interface Service {
  readonly admin: URL;
  /** Null when it is not known: then nothing is renewed. */
  readonly agents: URL | null;
  readonly roots: string;
  /** Name that the service's certificate is checked for. */
  readonly serverName: string | undefined;
  readonly startHint: string;
}

export interface Standpoint {
  /** Directory with the operator's key and chain. */
  readonly operator: string;
  /** Read when it is needed: some commands need only the operator's files. */
  readonly service: () => Service;
  /** What helps when the operator's certificate is over. */
  readonly expiredHint: string;
}

/**
 * `--server`, else a login that `--as` names, else the data directory, else the only login there is.
 * @throws AppError not-found, not-permitted; UsageError when it is not clear who is meant
 */
export function resolveStandpoint(connection: Connection, env: Environment): Standpoint {
  const dataDir = resolveDataDir(connection.data, env);
  const named = connection.as === undefined ? null : namedLogin(connection.as, dataDir, env);
  if (connection.server !== undefined) return remoteStandpoint(connection, connection.server, dataDir, named, env);
  if (named !== null && connection.data === undefined) return loginStandpoint(named);
  const saysWhere = connection.data !== undefined || (env["NEWLEAF_DATA"] ?? "") !== "";
  if (!saysWhere && connection.as === undefined && !isFoundedHere(dataDir, env)) {
    const only = onlyLogin(env);
    if (only !== null) return loginStandpoint(only);
  }
  return localStandpoint(connection, dataDir, env);
}

function loginStandpoint(login: LoginProfile): Standpoint {
  return {
    operator: login.directory,
    service: () => serviceOf(login),
    expiredHint: `Have another admin run: newleaf token create ${login.operator} (then here: newleaf login --server ${login.server} --name ${login.name} --token-file FILE), or newleaf identity grant-recovery ${login.operator} (then here: newleaf login --name ${login.name}). When no admin can act any more: newleaf operator rescue, on the service's host`,
  };
}

function serviceOf(login: LoginProfile): Service {
  return {
    admin: new URL(login.server),
    agents: new URL(login.agents),
    roots: login.roots,
    serverName: undefined,
    startHint: `Is it running? The login ${login.name} says that its admin listener is there; newleaf login says another`,
  };
}

function localStandpoint(connection: Connection, dataDir: string, env: Environment): Standpoint {
  requireFounded(dataDir, connection.as, env);
  return {
    operator: operatorDirectory(connection.as, dataDir, env),
    service: () => localService(dataDir),
    expiredHint: localHint(dataDir),
  };
}

function localHint(dataDir: string): string {
  return `Use another operator's with --as, or have another admin make a token (newleaf token create ID) and log in with it (newleaf login). When no admin can act any more, with the service stopped: newleaf operator rescue ID --data ${dataDir}`;
}

function remoteStandpoint(
  connection: Connection,
  server: string,
  dataDir: string,
  named: LoginProfile | null,
  env: Environment,
): Standpoint {
  const admin = URL.parse(server);
  if (admin === null || admin.protocol !== "https:")
    throw new UsageError(`--server ${server} must be an https:// URL of the admin listener`);
  const login = named ?? loginFor(admin, connection, env);
  const operator = login?.directory ?? operatorDirectory(connection.as, dataDir, env);
  return {
    operator,
    service: () => remoteService(connection, admin, dataDir, login),
    expiredHint: localHint(dataDir),
  };
}

/** The login at this very service, if there is one and nobody else is named. */
function loginFor(admin: URL, { as }: Connection, env: Environment): LoginProfile | null {
  if (as !== undefined) return null;
  const logins = listLogins(env).map((name) => readLogin(join(loginsDirectory(env), name)));
  const there = logins.filter((login) => new URL(login.server).href === admin.href);
  if (there.length > 1) throw severalLogins(there.map(({ name }) => name));
  return there[0] ?? null;
}

function remoteService(connection: Connection, admin: URL, dataDir: string, login: LoginProfile | null): Service {
  const isThere = login !== null && new URL(login.server).href === admin.href;
  const rootsFile = connection.roots ?? (login === null ? join(dataDir, "roots.pem") : null);
  if (rootsFile !== null && !existsSync(rootsFile))
    throw new UsageError(
      "--server needs --roots FILE: the PEM file of the root that the service's certificate comes from",
    );
  const agents = new URL(admin);
  agents.port = String(Number(admin.port === "" ? 443 : admin.port) - 2);
  return {
    admin,
    // Listeners keep the distance of the defaults, 8443 and 8445, where nobody moved them.
    agents: isThere ? new URL(login.agents) : admin.port === "8445" ? agents : null,
    roots: rootsFile === null ? (login?.roots ?? "") : readFileSync(rootsFile, "utf8"),
    serverName: undefined,
    startHint: "Is it running, and is this its admin listener?",
  };
}

/** By what `serve` wrote into the data directory. */
function localService(dataDir: string): Service {
  const startHint = `Start it with: newleaf serve --data ${dataDir}`;
  const runFile = join(dataDir, "run.json");
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

function requireFounded(dataDir: string, as: string | undefined, env: Environment): void {
  if (isFounded(dataDir)) return;
  const logins = listLogins(env);
  const named = as === undefined ? "" : `, and no login ${as}`;
  const known = logins.length === 0 ? "" : `, or speak as one of the logins ${logins.join(", ")} with --as`;
  throw new AppError(
    "not-found",
    `There is no Newleaf data directory at ${dataDir}${named}. Say where it is with --data, or log in to a service elsewhere with newleaf login${known}`,
  );
}

/** A data directory that is closed to this user is somebody else's affair where he has a login. */
function isFoundedHere(dataDir: string, env: Environment): boolean {
  try {
    return isFounded(dataDir);
  } catch (error) {
    if (listLogins(env).length > 0) return false;
    throw error;
  }
}

function onlyLogin(env: Environment): LoginProfile | null {
  const [only, ...others] = listLogins(env);
  if (only === undefined) return null;
  if (others.length > 0) throw severalLogins([only, ...others]);
  return readLogin(join(loginsDirectory(env), only));
}

function severalLogins(names: readonly string[]): UsageError {
  return new UsageError(`There are several logins (${names.join(", ")}); say which with --as NAME`);
}

/** An operator of the data directory comes before a login of the same name. */
function namedLogin(as: string, dataDir: string, env: Environment): LoginProfile | null {
  const directory = join(loginsDirectory(env), as);
  if (listLogins(env).includes(as) && !existsSync(join(dataDir, "operators", as, "key.pem")))
    return readLogin(directory);
  return as.includes("/") && isLogin(as) ? readLogin(resolve(as)) : null;
}

function operatorDirectory(as: string | undefined, dataDir: string, env: Environment): string {
  const operators = join(dataDir, "operators");
  if (as !== undefined) {
    if (existsSync(join(operators, as, "key.pem"))) return join(operators, as);
    if (existsSync(as)) return resolve(as);
    const logins = listLogins(env);
    throw new AppError(
      "not-found",
      `--as ${as} is neither an operator in ${operators}, nor a login${logins.length === 0 ? "" : ` (${logins.join(", ")})`}, nor a directory with key.pem and chain.pem`,
    );
  }
  const [only, ...others] = listOperatorDirectories(operators);
  if (only === undefined && !isFounded(dataDir)) throw nobodyHere(env);
  if (only === undefined)
    throw new AppError(
      "not-found",
      `There is no operator in ${operators}. Say who you are with --as DIRECTORY, or with the service stopped make one: newleaf operator rescue ID --data ${dataDir}`,
    );
  if (others.length > 0)
    throw new UsageError(`There are several operators (${[only, ...others].join(", ")}); say who you are with --as ID`);
  return join(operators, only);
}

/** With --server, where there is neither a login at that service nor a data directory. */
function nobodyHere(env: Environment): AppError {
  const logins = listLogins(env);
  const known = logins.length === 0 ? "" : `, or speak as one of the logins ${logins.join(", ")} with --as`;
  return new AppError("not-found", `There is no login at this service: get one with newleaf login${known}`);
}

/** What a rescue left that did not end has no certificate yet. */
function listOperatorDirectories(operators: string): readonly string[] {
  if (!existsSync(operators)) return [];
  return readdirSync(operators)
    .filter((id) => existsSync(join(operators, id, "chain.pem")))
    .toSorted();
}

function listenerUrl(value: unknown): URL | null {
  const address = typeof value === "string" ? parseAddress(value.replace(/^https?:\/\//, "").replace(/\/$/, "")) : null;
  if (address === null) return null;
  // An unspecified address is one to listen on, not one to call.
  const host = address.host === "0.0.0.0" ? "127.0.0.1" : address.host === "::" ? "::1" : address.host;
  return new URL(`https://${isIP(host) === 6 ? `[${host}]` : host}:${address.port}`);
}
