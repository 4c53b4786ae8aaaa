/** Caddy by its admin API. Caddy ignores signals, and without force it finds that its configuration has not changed. */
import { constants } from "node:fs/promises";
import { request, type IncomingMessage, type RequestOptions } from "node:http";
import { LedAstrayError, openGuarded, readWhole } from "../guarded-open.ts";
import { parseControlAddress } from "./control-address.ts";
import { oneLine } from "./run-program.ts";
import type { CaddyStrategy, ReloadContext, ReloadResult } from "./strategy.ts";

const maxConfigFile = 8 * 1024 * 1024;
/** The running configuration: what the file became, with all it imports. */
const maxAnswer = 32 * 1024 * 1024;
/** Caddy compares and finds nothing new in a configuration that names the same files, unless it is told not to compare. */
const force = { "Cache-Control": "must-revalidate" };
/** Somebody else changes the configuration just now: once more with what they made of it. */
const attempts = 3;
const validateTimeoutMs = 5000;

interface Answer {
  readonly status: number;
  readonly body: string;
  /** Caddy sends it after the body. */
  readonly etag: string | undefined;
}

/** Why Caddy was not reloaded. */
class Refused extends Error {}

/** Caddy looked at it and said no. */
class Declined extends Refused {}

/**
 * Has Caddy load its configuration anew, certificates included: the file of `config`, or, without one, what it runs with now.
 * A bad pair is refused by Caddy, which then goes on with what it has.
 */
export async function reloadByCaddy(strategy: CaddyStrategy, context: ReloadContext): Promise<ReloadResult> {
  try {
    const ask = adminOf(strategy, strategy.timeoutMs, context.signal);
    await (strategy.config === null ? loadRunning(ask) : loadFile(ask, strategy.config));
    return { ok: true, detail: `Caddy loaded ${sourceOf(strategy)} anew` };
  } catch (error) {
    const refused = error instanceof Declined;
    return { ok: false, ...(refused ? { refused } : {}), detail: explain(strategy, error) };
  }
}

export function describeCaddy(strategy: CaddyStrategy): string {
  return `Caddy's admin API at ${strategy.admin}, ${sourceOf(strategy)}`;
}

/** Asks without changing anything: the admin API translates a Caddyfile for whoever asks. */
export async function validateCaddy(strategy: CaddyStrategy, context: ReloadContext): Promise<readonly string[]> {
  try {
    const ask = adminOf(strategy, validateTimeoutMs, context.signal);
    const running = await ask("GET", "/config/admin");
    if (running.status !== 200) throw new Refused(`Caddy answers ${errorOf(running) ?? running.status}`);
    if (strategy.config === null) return [];
    return await validateFile(ask, strategy.config, running.body);
  } catch (error) {
    return [explain(strategy, error)];
  }
}

type Ask = ReturnType<typeof adminOf>;

async function loadRunning(ask: Ask): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const running = await ask("GET", "/config/");
    if (running.status !== 200) throw new Refused(`Caddy does not tell its configuration: ${whatever(running)}`);
    if (running.body.trim() === "null")
      throw new Refused("Caddy runs without a configuration: give it one, or `config`");
    const headers = { ...force, "Content-Type": "application/json" };
    // With the ETag nothing is undone that somebody else changed in between. Caddy before 2.5 has none.
    const loaded =
      running.etag === undefined
        ? await ask("POST", "/load", headers, running.body)
        : await ask("POST", "/config/", { ...headers, "If-Match": running.etag }, running.body);
    if (loaded.status === 412 && attempt < attempts) continue;
    return accepted(loaded);
  }
}

async function loadFile(ask: Ask, path: string): Promise<void> {
  const body = await readConfig(path);
  accepted(await ask("POST", "/load", { ...force, "Content-Type": contentType(path) }, body));
}

/** Caddy has sent its 200 when a Caddyfile had a warning (`not formatted`), and what went wrong after that comes in the body. */
function accepted(answer: Answer): void {
  const error = errorOf(answer);
  if (answer.status !== 200 || error !== null) {
    throw new Declined(`Caddy refuses to load it and goes on with what it has: ${whatever(answer)}`);
  }
}

function whatever(answer: Answer): string {
  return errorOf(answer) ?? `status ${answer.status}`;
}

/** The error at the end of a body, after a list of warnings perhaps. */
function errorOf({ body }: Answer): string | null {
  const found = /\{"error":("(?:[^"\\]|\\.)*")\}\s*$/.exec(body.slice(-maxErrorBody))?.[1];
  return found === undefined ? null : String(JSON.parse(found));
}
const maxErrorBody = 64 * 1024;

async function validateFile(ask: Ask, path: string, admin: string): Promise<readonly string[]> {
  const body = await readConfig(path);
  let next: unknown;
  if (contentType(path) === "application/json") {
    try {
      next = JSON.parse(body);
    } catch (error) {
      return [`${path} is not JSON: ${(error as Error).message}`];
    }
  } else {
    const adapted = await ask("POST", "/adapt", { "Content-Type": contentType(path) }, body);
    // Caddy before 2.5 translates for nobody; it will say at the first reload what is wrong with the file.
    if (adapted.status === 404) return [];
    if (adapted.status !== 200) return [`Caddy does not understand ${path}: ${whatever(adapted)}`];
    next = (JSON.parse(adapted.body) as { result?: unknown }).result;
  }
  const [now, then] = [listenOf(JSON.parse(admin)), listenOf((next as { admin?: unknown } | null)?.admin)];
  if (sameHost(now) === sameHost(then)) return [];
  return [
    `${path} would move Caddy's admin API from ${now} to ${then}, and the next reload would not find it: write \`admin ${now}\` into its global options`,
  ];
}

/** Where Caddy's admin API listens when it is not told. */
const defaultListen = "localhost:2019";

function listenOf(admin: unknown): string {
  if (typeof admin !== "object" || admin === null) return defaultListen;
  if ("disabled" in admin && admin.disabled === true) return "nowhere";
  return "listen" in admin && typeof admin.listen === "string" ? admin.listen : defaultListen;
}

const sameHost = (listen: string): string => listen.replace(/^localhost:/, "127.0.0.1:");

const contentType = (path: string): string => (path.endsWith(".json") ? "application/json" : "text/caddyfile");

async function readConfig(path: string): Promise<string> {
  const file = await openGuarded(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new Refused(`${path} is not a regular file: name Caddy's configuration file`);
    if (info.size > maxConfigFile) throw new Refused(`${path} is larger than 8 MiB: is it Caddy's configuration file?`);
    return (await readWhole(file, path, maxConfigFile)).toString("utf8");
  } finally {
    await file.close();
  }
}

function adminOf({ admin }: CaddyStrategy, timeoutMs: number, signal: AbortSignal | undefined) {
  const address = parseControlAddress(admin);
  const limit = AbortSignal.timeout(timeoutMs);
  const any = signal === undefined ? limit : AbortSignal.any([limit, signal]);
  // Against DNS rebinding Caddy answers only to its own address as Host; at a Unix socket only to an empty one, which Node
  // would replace by "localhost". With `enforce_origin` it wants the same as Origin.
  const at: RequestOptions =
    "socketPath" in address
      ? { socketPath: address.socketPath, setHost: false, headers: { Host: "" } }
      : { host: address.host, port: address.port, headers: { Origin: `http://${admin}` } };
  return async (method: string, path: string, headers: Record<string, string> = {}, body = ""): Promise<Answer> => {
    try {
      return await exchange(
        { ...at, method, path, headers: { ...at.headers, ...headers }, agent: false, signal: any },
        body,
      );
    } catch (error) {
      if (limit.aborted) throw new Refused(`Caddy took longer than ${timeoutMs / 1000} s to answer: look at its log`);
      if (any.aborted) throw new Refused("Caddy was not waited for: the agent is stopping");
      throw error;
    }
  };
}

function exchange(options: RequestOptions, body: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(options, (answer: IncomingMessage) => {
      const chunks: Buffer[] = [];
      let size = 0;
      answer.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size > maxAnswer) asked.destroy(new Refused("Caddy's answer is larger than 32 MiB: is that Caddy?"));
      });
      answer.once("error", reject);
      answer.once("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({ status: answer.statusCode ?? 0, body: text, etag: answer.trailers["etag"] ?? answer.headers.etag });
      });
    });
    asked.once("error", reject);
    asked.end(body);
  });
}

function sourceOf({ config }: CaddyStrategy): string {
  return config ?? "the running configuration";
}

function explain({ admin, config }: CaddyStrategy, error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error));
  const { code, path } = error as NodeJS.ErrnoException;
  if (error instanceof Refused || error instanceof LedAstrayError) return oneLine(error.message);
  if (path !== undefined && path === config) {
    return code === "ENOENT"
      ? `${config} is not there: correct \`config\`, or leave it out to load what Caddy runs with`
      : oneLine(`${config} cannot be read: ${error.message}`);
  }
  switch (code) {
    case "ECONNREFUSED":
    case "ENOENT":
      return `nothing answers at ${admin}: is Caddy running, and does its \`admin\` option say so?`;
    case "EACCES":
      return `this user may not use ${admin}: run the agent as root or as Caddy's user`;
    default:
      return oneLine(`${admin}: ${error.message}; is that Caddy's admin API?`);
  }
}
