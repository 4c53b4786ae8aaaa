/**
 * One connection as a certain client: is it let in? TLS 1.3 servers judge a client's certificate after the client is done with
 * the handshake, and nginx judges it in its HTTP answer, so a handshake alone says nothing.
 */
import { type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { visible } from "@newleaf/shared/visible";
import {
  beginTls,
  type ClientCredential,
  HandshakeError,
  overSocket,
  type ProbeTarget,
  whyDistrusted,
} from "./handshake.ts";

/** What is asked of the server over HTTP/1.1. */
export interface HttpQuestion {
  readonly path: string;
  /** The Host header; null: the probe's server name. */
  readonly host: string | null;
}

export interface VisitOptions {
  /** Null: a visitor without a certificate. */
  readonly client: ClientCredential | null;
  /** PEM of the roots the server has to verify against. */
  readonly ca: readonly string[];
  /** Null for servers that do not speak HTTP: to be let in is then to hear no objection for `graceMs`. */
  readonly http: HttpQuestion | null;
  /** How long after the handshake a refusal is waited for; over HTTP, before the request is sent. */
  readonly graceMs: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export type Visit =
  /** An answer over HTTP. `title`: of the page that came with it, in which servers say why; null without one. */
  | { readonly kind: "answered"; readonly status: number; readonly title: string | null }
  /** The handshake is over and nobody objected. */
  | { readonly kind: "open" }
  /** Turned away: by a TLS alert, or by closing the connection after the handshake without an answer. */
  | { readonly kind: "refused"; readonly alert: boolean; readonly why: string }
  /** Nothing can be said: no connection, no answer in time, a server that does not verify. */
  | { readonly kind: "failed"; readonly why: string };

/** OpenSSL puts ALERT into the code of each error that the other side's alert caused. */
const alertPattern = /ALERT/i;
const maxTitleBytes = 4096;
const maxHeaderBytes = 16_384;
const titleTimeoutMs = 1000;

/** Never throws. */
export async function visit(probe: ProbeTarget, options: VisitOptions): Promise<Visit> {
  try {
    return await overSocket(probe, { ...options, wanted: "answer" }, async (socket, over) => {
      try {
        const visit = await enter(socket, probe, options);
        // Our own clock or a stop ended it, not the server.
        over.throwIfAborted();
        return visit;
      } finally {
        socket.destroy();
      }
    });
  } catch (error) {
    return { kind: "failed", why: error instanceof HandshakeError ? error.message : String(error) };
  }
}

async function enter(socket: Socket, probe: ProbeTarget, options: VisitOptions): Promise<Visit> {
  const tls = beginTls(socket, probe.serverName, options);
  const { ended, secure } = follow(tls, socket);
  const early = await Promise.race([ended, secure]);
  if (early !== null) return early;
  const distrust = whyDistrusted(tls);
  if (distrust !== null)
    return { kind: "failed", why: `the server does not verify for ${probe.serverName}: ${distrust}` };
  const pause = new AbortController();
  const objection = await Promise.race([ended, sleep(options.graceMs, null, { signal: pause.signal })]);
  if (objection !== null) {
    pause.abort();
    return objection;
  }
  const { http } = options;
  if (http === null) return leave(tls);
  const first = await Promise.race([ask(tls, http, probe.serverName), ended]);
  if ("kind" in first) return first;
  return { kind: "answered", status: first.statusCode ?? 0, title: await titleOf(first) };
}

/** `secure` is null when the handshake is done; `ended` is what it was that ended the connection. */
function follow(tls: TLSSocket, socket: Socket): { ended: Promise<Visit>; secure: Promise<null> } {
  let isSecure = false;
  const secure = new Promise<null>((resolve) => {
    tls.once("secureConnect", () => {
      isSecure = true;
      resolve(null);
    });
  });
  const ended = new Promise<Visit>((resolve) => {
    const end = (error: NodeJS.ErrnoException | null): void => {
      const alert = error !== null && (alertPattern.test(error.code ?? "") || alertPattern.test(error.message));
      const why = error === null ? "the server closed the connection without an answer" : visible(error.message);
      // A server that hangs up amid the handshake (Node's, over TLS 1.2) may have judged the client, or may have crashed.
      if (alert || isSecure) resolve({ kind: "refused", alert, why });
      else resolve({ kind: "failed", why });
    };
    tls.on("error", end);
    socket.on("error", end);
    tls.once("end", () => end(null));
    tls.once("close", () => end(null));
  });
  // Before there is a request: nothing is to be read, but the end has to be seen.
  tls.resume();
  return { ended, secure };
}

/** In order, so that the visit leaves no error in the server's log. */
async function leave(tls: TLSSocket): Promise<Visit> {
  await new Promise<void>((resolve) => tls.end(resolve));
  return { kind: "open" };
}

function ask(tls: TLSSocket, { path, host }: HttpQuestion, serverName: string): Promise<IncomingMessage | Visit> {
  return new Promise((resolve) => {
    const asked = request({
      createConnection: () => tls,
      path,
      headers: { host: host ?? serverName, "user-agent": "newleaf-agent", connection: "close" },
      maxHeaderSize: maxHeaderBytes,
    });
    asked.on("error", (error: NodeJS.ErrnoException) => {
      // Something was said, but not HTTP. What ends the connection is told by `follow`.
      const isParser = error.code?.startsWith("HPE_") === true;
      if (isParser)
        resolve({
          kind: "failed",
          why: `the answer is not HTTP/1.1 (${error.code}); for other servers say http: none`,
        });
    });
    asked.once("response", resolve);
    asked.end();
  });
}

/** nginx: `400 The SSL certificate error`. */
async function titleOf(answer: IncomingMessage): Promise<string | null> {
  const isPage = (answer.headers["content-type"] ?? "").startsWith("text/html");
  if (!isPage) return null;
  const chunks: Buffer[] = [];
  let length = 0;
  const limit = setTimeout(() => answer.destroy(), titleTimeoutMs);
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= maxTitleBytes) break;
    }
  } catch {
    // What came so far may hold it.
  } finally {
    clearTimeout(limit);
  }
  const text = Buffer.concat(chunks).subarray(0, maxTitleBytes).toString("utf8");
  const title = /<title>([^<]{1,120})<\/title>/i.exec(text)?.[1]?.trim();
  return title === undefined || title === "" ? null : visible(title);
}
