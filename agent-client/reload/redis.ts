/**
 * Redis by CONFIG SET. It ignores SIGHUP, and reads certificate, key and CAs anew when one of their settings is set, also to the
 * path it has. All in one command, which Redis 7 applies as a whole or not at all.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { isIP, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { readGuarded, readSecretLine, UnfitFileError } from "../guarded-open.ts";
import { currentLink, previousLink, type Target } from "../install/target.ts";
import { openToAll, parseControlAddress } from "./control-address.ts";
import { connectTo, type Dialogue, RedisRefusal, type Reply, startDialogue } from "./redis-dialogue.ts";
import { oneLine } from "./run-program.ts";
import type { RedisStrategy, ReloadContext, ReloadResult } from "./strategy.ts";

const settings = ["tls-cert-file", "tls-key-file", "tls-ca-cert-file"] as const;
const validateTimeoutMs = 5000;
const maxPasswordFile = 4096;
const maxCertificateFile = 1024 * 1024;
const chainFiles: readonly string[] = ["fullchain.pem", "tls.crt", "combined.pem"];
const keyFiles: readonly string[] = ["key.pem", "tls.key", "combined.pem"];
const authorityFiles: readonly string[] = ["ca.pem", "ca.crt"];

/** Why Redis was not told. Never holds the password. */
class Unfit extends Error {}

/** `Unable to update TLS configuration. Check server logs.`: the files, not the password or the right to use CONFIG. */
const tlsRefusal = /Unable to update TLS/i;

/** Has Redis read its TLS files anew. A bad pair is refused by Redis, which then goes on with what it has. */
export async function reloadByRedis(strategy: RedisStrategy, context: ReloadContext): Promise<ReloadResult> {
  try {
    return await converse(strategy, context, strategy.timeoutMs, async (dialogue) => {
      const configured = await configuredFiles(dialogue);
      await dialogue.ask("CONFIG", "SET", ...configured.flat());
      return { ok: true, detail: `Redis loaded ${configured.map(([, path]) => path).join(", ")}` };
    });
  } catch (error) {
    const refused = error instanceof RedisRefusal && tlsRefusal.test(error.message);
    return { ok: false, ...(refused ? { refused } : {}), detail: explain(strategy, error) };
  }
}

export function describeRedis({ connect }: RedisStrategy): string {
  return `CONFIG SET tls-cert-file … of Redis at ${connect}`;
}

/** Connects, logs in and reads the settings; sets nothing. */
export async function validateRedis(strategy: RedisStrategy, context: ReloadContext): Promise<readonly string[]> {
  try {
    return await converse(strategy, context, validateTimeoutMs, async (dialogue) => {
      const [[, certificate]] = await configuredFiles(dialogue);
      const { target } = context;
      const installed = target === undefined ? null : await leafOf(target, currentLink(target));
      const named = await readLeaf(certificate);
      // A path that is not there may be one of Redis's container.
      if (target === undefined || installed === null || named === null || named.equals(installed)) return [];
      return [
        `Redis's tls-cert-file is ${certificate}, which is not what is installed in ${target.directory}: set it to ${join(currentLink(target), "fullchain.pem")}`,
      ];
    });
  } catch (error) {
    return [explain(strategy, error)];
  }
}

/** What Redis is configured with, the certificate first; what is not set stays so. */
async function configuredFiles(dialogue: Dialogue): Promise<[[string, string], ...[string, string][]]> {
  const answer = await dialogue.ask("CONFIG", "GET", "tls-*");
  const fields = pairsOf(answer);
  const found = settings.flatMap((name): [string, string][] => {
    const path = fields.get(name);
    return path === undefined || path === "" ? [] : [[name, path]];
  });
  const [first, ...rest] = found;
  if (first?.[0] === "tls-cert-file") return [first, ...rest];
  throw new Unfit(
    fields.has("tls-cert-file")
      ? "Redis has no tls-cert-file: name it in redis.conf, with tls-key-file and tls-port, and restart Redis once"
      : "this Redis knows no TLS: it was built without",
  );
}

function pairsOf(answer: Reply): Map<string, string> {
  const list = Array.isArray(answer) ? (answer as readonly Reply[]) : [];
  return new Map(
    list.flatMap((name, at): [string, string][] => {
      const value = list[at + 1];
      return at % 2 === 0 && typeof name === "string" && typeof value === "string" ? [[name, value]] : [];
    }),
  );
}

async function converse<T>(
  strategy: RedisStrategy,
  { target, signal }: ReloadContext,
  timeoutMs: number,
  talk: (dialogue: Dialogue) => Promise<T>,
): Promise<T> {
  const limit = AbortSignal.timeout(timeoutMs);
  const any = signal === undefined ? limit : AbortSignal.any([limit, signal]);
  const password = strategy.passwordFile === null ? null : await readPassword(strategy.passwordFile);
  any.throwIfAborted();
  const opened: Socket[] = [];
  const stop = (): void => {
    const why = limit.aborted ? `Redis took longer than ${timeoutMs / 1000} s to answer` : "the agent is stopping";
    for (const socket of opened) socket.destroy(new Unfit(why));
  };
  any.addEventListener("abort", stop, { once: true });
  try {
    const address = parseControlAddress(strategy.connect);
    if ("socketPath" in address && password !== null && strategy.tls === null) {
      const open = await openToAll(address.socketPath);
      if (open !== null)
        throw new Unfit(
          `anybody may put a socket into ${open}, and the password goes through it: move Redis's unixsocket to a directory of its own, such as /run/redis`,
        );
    }
    const tcp = await connectTo(address, opened);
    const socket = strategy.tls === null ? tcp : await secure(tcp, strategy.tls.serverName, target);
    opened.push(socket);
    const dialogue = startDialogue(socket);
    if (password !== null) {
      await dialogue.ask("AUTH", ...(strategy.user === null ? [] : [strategy.user]), password);
    }
    return await talk(dialogue);
  } finally {
    any.removeEventListener("abort", stop);
    for (const socket of opened) socket.destroy();
  }
}

/** The first line. */
async function readPassword(path: string): Promise<string> {
  const line = await readSecretLine(path, "passwordFile", maxPasswordFile).catch((error: NodeJS.ErrnoException) => {
    if (error instanceof UnfitFileError) throw new Unfit(error.message);
    throw new Unfit(
      `passwordFile ${path} cannot be read (${error.code ?? error.message}): correct the path, or its mode`,
    );
  });
  if (line === "") throw new Unfit(`passwordFile ${path} has an empty first line: write the password there`);
  return line;
}

/**
 * TLS with the installed leaf as client certificate. The password goes only to a server that verifies with the installed CAs, or
 * that presents a leaf which this agent installed itself: the one it has to replace may have expired.
 */
async function secure(tcp: Socket, serverName: string, target: Target | undefined): Promise<TLSSocket> {
  if (target === undefined) throw new Unfit("nothing is installed yet to verify Redis with");
  const [cert, key, ca] = await Promise.all([
    readInstalled(target, chainFiles),
    readInstalled(target, keyFiles),
    readInstalled(target, authorityFiles),
  ]);
  const own = await Promise.all([currentLink(target), previousLink(target)].map((link) => leafOf(target, link)));
  const named = isIP(serverName) === 0 ? { servername: serverName } : { host: serverName };
  const tls = connectTls({ ...named, socket: tcp, cert, key, ca, rejectUnauthorized: false, minVersion: "TLSv1.2" });
  await new Promise<void>((resolve, reject) => {
    tls.once("secureConnect", resolve);
    tls.on("error", reject);
    tls.once("close", () => reject(new Error("the connection was closed during the TLS handshake")));
  });
  const shown = tls.getPeerX509Certificate();
  const isOurs = shown !== undefined && own.some((leaf) => leaf?.equals(shown.raw) === true);
  if (tls.authorized || isOurs) return tls;
  tls.destroy();
  throw new Unfit(
    `the server does not verify for ${serverName} (${String(tls.authorizationError)}), so it was told nothing: correct \`tls.serverName\` or \`connect\``,
  );
}

async function readInstalled(target: Target, names: readonly string[]): Promise<string> {
  const name = firstOf(target, names);
  if (name === undefined) throw new Unfit(`TLS to Redis needs ${names[0]}: add it to \`files\``);
  const path = join(currentLink(target), name);
  return readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw new Unfit(`${path} cannot be read (${error.code ?? error.message}): enroll first`);
  });
}

function firstOf({ files }: Target, names: readonly string[]): string | undefined {
  return names.find((name) => files.some((file) => file === name));
}

async function leafOf(target: Target, directory: string): Promise<Buffer | null> {
  const name = firstOf(target, chainFiles);
  return name === undefined ? null : readLeaf(join(directory, name));
}

/** DER of the first certificate of a file, which Redis may have named; null when there is none to read. */
async function readLeaf(path: string): Promise<Buffer | null> {
  try {
    return new X509Certificate((await readGuarded(path, maxCertificateFile)).data).raw;
  } catch {
    return null;
  }
}

function explain({ connect, passwordFile, tls }: RedisStrategy, error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error));
  if (error instanceof Unfit) return oneLine(error.message);
  if (error instanceof RedisRefusal)
    return oneLine(`Redis says ${error.message}${advice(error.message, passwordFile)}`);
  switch ((error as NodeJS.ErrnoException).code) {
    case "ECONNREFUSED":
    case "ENOENT":
      return `nothing answers at ${connect}: is Redis running, and does it listen there?`;
    case "EACCES":
      return `this user may not use ${connect}: run the agent as root, or give its user the socket (unixsocketperm)`;
    default:
      // Redis says nothing at all to who speaks in clear at its TLS port.
      return oneLine(
        `${connect}: ${error.message}${tls === null ? "; a port with TLS needs `tls: { serverName: … }`" : ""}`,
      );
  }
}

function advice(said: string, passwordFile: string | null): string {
  if (said.startsWith("WRONGPASS")) return `; correct \`user\` or ${passwordFile}`;
  if (said.startsWith("NOAUTH")) return "; name a `passwordFile`";
  if (said.startsWith("NOPERM")) return "; its user needs +config|get and +config|set";
  if (said.includes("CONFIG SET failed")) return "; it goes on with what it has, and its log says why";
  return "";
}
