/** The visitors of traffic.ts. Runs as a worker thread. */
import { randomBytes } from "node:crypto";
import { Agent, type RequestOptions, request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, createSecureContext, type TLSSocket } from "node:tls";
import { parentPort, workerData } from "node:worker_threads";
import { fingerprint } from "@newleaf/shared/fingerprint";
import type { TrafficOptions, TrafficReport } from "./traffic.ts";

const timeoutMs = 10_000;
const reportEveryMs = 100;
/** A WebSocket of backend.ts ticks ten times a second. */
const silentAfterMs = 5000;
/** As many texts of failures are kept; further ones only raise the count. */
const maxTexts = 1000;
const pauseAfterFailureMs = 20;

const options = workerData as TrafficOptions;
const isHttp = options.kind === "http";
const path = options.path ?? "/";
const secureContext = createSecureContext({ ca: options.ca, ...options.client });
const address = {
  host: "127.0.0.1",
  port: options.port,
  servername: options.serverName,
  secureContext,
};

/** As browsers have it: a server that asks for client certificates may compare it with the SNI (Caddy answers 421). */
const host = `${options.serverName}:${options.port}`;

const newConnections = { made: 0, failed: [] as string[] };
const kept = { requests: 0, resets: 0, failed: [] as string[] };
const webSockets = { opened: 0, cut: 0 };
const presented = new Map<string, { firstSeenAt: number; lastSeenAt: number }>();
let stopping = false;

await main();

async function main(): Promise<void> {
  parentPort?.on("message", () => (stopping = true));
  const post = (): void => parentPort?.postMessage(snapshot());
  const reporting = setInterval(post, reportEveryMs);
  const firsts: Promise<void>[] = [];
  const loops: Promise<void>[] = [];
  const start = (count: number, visitor: (first: () => void) => Promise<void>): void => {
    for (let i = 0; i < count; i += 1) firsts.push(new Promise((first) => loops.push(visitor(first))));
  };
  start(options.newLoops ?? 4, isHttp ? newRequests : handshakes);
  start(isHttp ? (options.kept ?? 150) : 0, keptRequests);
  start(isHttp ? (options.webSockets ?? 2) : 0, webSocket);
  await Promise.all(firsts);
  post();
  parentPort?.postMessage("started");
  await Promise.all(loops);
  clearInterval(reporting);
  post();
  parentPort?.close();
}

function snapshot(): TrafficReport {
  const seen = [...presented].map(([fingerprint, times]) => ({ fingerprint, ...times }));
  return { newConnections, kept, webSockets, presented: seen };
}

async function newRequests(first: () => void): Promise<void> {
  while (!stopping) {
    newConnections.made += 1;
    const problem = await ask({ ...address, path, agent: false }).then(({ problem }) => problem);
    if (problem !== null) await fail(newConnections.failed, problem);
    first();
  }
}

async function handshakes(first: () => void): Promise<void> {
  while (!stopping) {
    newConnections.made += 1;
    const begun = Date.now();
    const problem = await new Promise<string | null>((resolve) => {
      const socket = connect(address, () => {
        noteLeaf(socket, begun);
        socket.end();
        resolve(null);
      });
      socket.setTimeout(timeoutMs, () => socket.destroy(new Error("timeout")));
      socket.on("error", (error) => resolve(error.message));
    });
    if (problem !== null) await fail(newConnections.failed, problem);
    first();
  }
}

async function keptRequests(first: () => void): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, maxCachedSessions: 0 });
  while (!stopping) {
    kept.requests += 1;
    const { problem, reused } = await ask({ ...address, path, agent });
    if (problem !== null && reused && /ECONNRESET|EPIPE|socket hang up/.test(problem)) kept.resets += 1;
    else if (problem !== null) await fail(kept.failed, problem);
    first();
    await sleep(options.keptPauseMs ?? 5);
  }
  agent.destroy();
}

/** One request, once. */
function ask(how: RequestOptions): Promise<{ problem: string | null; reused: boolean }> {
  const begun = Date.now();
  return new Promise((resolve) => {
    const call = request({ ...how, headers: { host }, timeout: timeoutMs }, (answer) => {
      const { statusCode } = answer;
      answer.on("error", (error) => end(error.message));
      answer.resume().once("end", () => end(statusCode === 200 ? null : `status ${statusCode}`));
    });
    const end = (problem: string | null): void => resolve({ problem, reused: call.reusedSocket });
    call.once("socket", (socket) => {
      if (!call.reusedSocket) socket.once("secureConnect", () => noteLeaf(socket as TLSSocket, begun));
    });
    call.once("timeout", () => call.destroy(new Error("timeout")));
    call.on("error", (error: NodeJS.ErrnoException) => end(`${error.code ?? ""} ${error.message}`.trim()));
    call.end();
  });
}

async function webSocket(first: () => void): Promise<void> {
  while (!stopping) {
    const begun = Date.now();
    const socket = await upgrade();
    if (typeof socket === "string") await fail(newConnections.failed, `websocket: ${socket}`);
    else noteLeaf(socket, begun);
    first();
    if (typeof socket === "string") continue;
    webSockets.opened += 1;
    let heardAt = Date.now();
    let gone = false;
    socket.on("data", () => (heardAt = Date.now()));
    socket.on("error", () => (gone = true));
    socket.on("close", () => (gone = true));
    while (!stopping && !gone && Date.now() - heardAt < silentAfterMs) await sleep(20);
    if (gone || Date.now() - heardAt >= silentAfterMs) webSockets.cut += 1;
    socket.destroy();
  }
}

/** RFC 6455 §4.1; the frames that come are heard, not read. */
function upgrade(): Promise<TLSSocket | string> {
  const headers = {
    host,
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
  };
  return new Promise((resolve) => {
    const call = request({ ...address, path, agent: false, headers, timeout: timeoutMs });
    call.once("upgrade", (_answer, socket) => resolve(socket as TLSSocket));
    call.once("response", (answer) => {
      answer.resume();
      resolve(`status ${answer.statusCode}`);
    });
    call.once("timeout", () => call.destroy(new Error("timeout")));
    call.on("error", (error) => resolve(error.message));
    call.end();
  });
}

function noteLeaf(socket: TLSSocket, begun: number): void {
  const der = socket.getPeerX509Certificate()?.raw;
  if (der === undefined) return;
  const name = fingerprint(der);
  const known = presented.get(name);
  if (known === undefined) presented.set(name, { firstSeenAt: Date.now(), lastSeenAt: begun });
  else known.lastSeenAt = Math.max(known.lastSeenAt, begun);
}

async function fail(list: string[], problem: string): Promise<void> {
  list.push(list.length < maxTexts ? `${new Date().toISOString()} ${problem}` : "");
  await sleep(pauseAfterFailureMs);
}
