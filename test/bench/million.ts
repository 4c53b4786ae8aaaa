/**
 * What an operator waits for with a million certificates over a hundred thousand identities: pages, searches, status, the scrape,
 * through the real service over mTLS. `bin/node test/bench/million.ts [--json] [--identities N] [--rounds N] [--keep DIR]`
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { Agent, request as httpsRequest } from "node:https";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cpuMs } from "./process-stats.ts";
import { initDataDir, operatorId } from "../support/service.ts";
import { serve, type ServiceProcess } from "../support/service-process.ts";
import { fillStore, fingerprintOf, identityId, keyOf, serialOf } from "./million-store.ts";

export interface MillionFigures {
  readonly certificates: number;
  readonly identities: number;
  readonly fillSeconds: number;
  readonly startSeconds: number;
  readonly requests: readonly RequestFigures[];
}

export interface RequestFigures {
  readonly what: string;
  readonly path: string;
  readonly items: number | null;
  readonly kilobytes: number;
  readonly p50: number;
  readonly p99: number;
  /** Of the service, all its threads, for one request: what other programs on the machine do not change. */
  readonly cpu: number;
}

interface Asked {
  readonly status: number;
  readonly body: string;
}

const generations = 10;
/** Pages of a walk that are timed one by one. */
const walked = 20;

/** @param kept directory in which the filled store is left for another run; made when it is not there */
export async function benchMillion(identities: number, rounds: number, kept?: string): Promise<MillionFigures> {
  const dir = kept ?? (await mkdtemp(join(tmpdir(), "newleaf-million-")));
  try {
    const dataDir = join(dir, "data");
    const filled = performance.now();
    if (!existsSync(dataDir)) {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await initDataDir(dataDir, dir);
      await fillStore(dataDir, { identities, generations }, Date.now());
    }
    const started = performance.now();
    const service = await serve(dataDir, { NEWLEAF_LOG_LEVEL: "warn", NEWLEAF_BACKUP_SCHEDULE: "null" });
    const up = performance.now();
    try {
      const ask = await client(service, dataDir);
      const requests: RequestFigures[] = [];
      for (const [what, path] of pages(identities))
        requests.push(await time({ ask, pid: service.child.pid ?? 0 }, what, path, rounds));
      return {
        certificates: identities * generations,
        identities,
        fillSeconds: (started - filled) / 1000,
        startSeconds: (up - started) / 1000,
        requests,
      };
    } finally {
      await service.stop();
    }
  } finally {
    if (kept === undefined) await rm(dir, { recursive: true, force: true });
  }
}

/** What is asked: the first page of each, unless it says otherwise. */
function pages(identities: number): readonly (readonly [string, string])[] {
  const some = Math.floor(identities / 2);
  const digits = (fingerprint: string) => encodeURIComponent(fingerprint.slice(0, 20));
  const iso = (days: number) => encodeURIComponent(new Date(Date.now() + days * 86_400_000).toISOString());
  return [
    ["identities", "/v1/identities"],
    ["identities, 20 pages on", "/v1/identities?walk"],
    ["identities by end", "/v1/identities?sort=notAfter"],
    ["identities by last seen", "/v1/identities?sort=lastSeen"],
    ["identities that end in 12 days", "/v1/identities?expiresBefore=12d"],
    ["identities, one profile", "/v1/identities?profile=operator"],
    ["identities, suspended", "/v1/identities?state=suspended"],
    ["identities by label, 5,000 of them", "/v1/identities?label=site%3Dsite-3"],
    ["identities by label, 100 of them", "/v1/identities?label=rack%3Dr5"],
    ["identities: part of an id", `/v1/identities?q=${identityId(some).slice(3)}`],
    ["identities: part of a name, few", `/v1/identities?q=alias-${some}`],
    ["identities: part of a name, all", "/v1/identities?q=claw.internal"],
    ["identities: two letters", "/v1/identities?q=zz"],
    ["identities: nothing found", "/v1/identities?q=nosuchname"],
    ["identities: a serial", `/v1/identities?q=${serialOf(some, 4).slice(0, 12).toUpperCase()}`],
    ["identities: a key's fingerprint", `/v1/identities?q=${digits(keyOf(some, 4))}`],
    ["identities: a leaf's fingerprint", `/v1/identities?q=${digits(fingerprintOf(some, 4))}`],
    ["one identity", `/v1/identities/${identityId(some)}`],
    ["certificates", "/v1/certificates"],
    ["certificates, 20 pages on", "/v1/certificates?walk"],
    ["certificates by end", "/v1/certificates?sort=notAfter"],
    ["certificates by serial", "/v1/certificates?sort=serial"],
    ["certificates that end in 12 days", `/v1/certificates?expiresBefore=${iso(12)}`],
    ["certificates, current", "/v1/certificates?state=current"],
    ["certificates, pending", "/v1/certificates?state=pending"],
    ["certificates, superseded", "/v1/certificates?state=superseded"],
    ["certificates, revoked", "/v1/certificates?state=revoked"],
    ["certificates, expired", "/v1/certificates?state=expired"],
    ["certificates, held (none)", "/v1/certificates?state=held"],
    ["certificates, operators'", "/v1/certificates?profile=operator"],
    ["certificates of one identity", `/v1/certificates?identity=${identityId(some)}`],
    ["certificates: part of an id", `/v1/certificates?q=${identityId(some).slice(3)}`],
    ["certificates: part of a name, all", "/v1/certificates?q=claw.internal"],
    ["certificates: a serial", `/v1/certificates?q=${serialOf(some, 4).slice(0, 12).toUpperCase()}`],
    ["certificates: a leaf's fingerprint", `/v1/certificates?q=${digits(fingerprintOf(some, 4))}`],
    ["one certificate", `/v1/certificates/${serialOf(some, 4)}`],
    ["lineages, locked", "/v1/lineages?state=locked"],
    ["status", "/v1/status"],
    ["scrape", "/metrics"],
  ];
}

interface Service {
  readonly ask: (path: string) => Promise<Asked>;
  readonly pid: number;
}

async function time({ ask, pid }: Service, what: string, path: string, rounds: number): Promise<RequestFigures> {
  const times: number[] = [];
  const before = await cpuMs(pid);
  let last: Asked = { status: 0, body: "" };
  const once = async (at: string) => {
    const begun = performance.now();
    last = await ask(at);
    times.push(performance.now() - begun);
    if (last.status !== 200) throw new Error(`${at} was answered with ${last.status}: ${last.body.slice(0, 200)}`);
  };
  if (path.endsWith("?walk")) {
    const list = path.slice(0, -"?walk".length);
    await once(list);
    for (let page = 0; page < walked; page++) {
      const { nextCursor } = JSON.parse(last.body) as { readonly nextCursor: string };
      await once(`${list}?cursor=${encodeURIComponent(nextCursor)}`);
    }
  } else {
    for (let round = 0; round < rounds; round++) await once(path);
  }
  const cpu = ((await cpuMs(pid)) - before) / times.length;
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  const body: unknown = path === "/metrics" ? null : JSON.parse(last.body);
  const items = isList(body) ? body.items.length : null;
  return { what, path, items, kilobytes: last.body.length / 1000, p50: at(0.5), p99: at(0.99), cpu };
}

function isList(body: unknown): body is { readonly items: readonly unknown[] } {
  return typeof body === "object" && body !== null && "items" in body && Array.isArray(body.items);
}

/** One kept connection, as the command line and a console have. */
async function client(service: ServiceProcess, dataDir: string): Promise<(path: string) => Promise<Asked>> {
  const operator = join(dataDir, "operators", operatorId);
  const agent = new Agent({
    keepAlive: true,
    maxSockets: 1,
    ca: await readFile(join(dataDir, "roots.pem")),
    cert: await readFile(join(operator, "chain.pem")),
    key: await readFile(join(operator, "key.pem")),
  });
  return (path) =>
    new Promise((resolve, reject) => {
      const taken = (response: IncomingMessage) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text: string) => (body += text));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      };
      const isScrape = path === "/metrics";
      const url = new URL(path, isScrape ? service.urls.ops : service.urls.admin);
      const sent = isScrape ? httpRequest(url, taken) : httpsRequest(url, { agent }, taken);
      sent.on("error", reject).end();
    });
}

if (import.meta.main) {
  const option = (name: string, usual: number): number => {
    const at = process.argv.indexOf(`--${name}`);
    return at === -1 ? usual : Number(process.argv[at + 1]);
  };
  const keep = process.argv.indexOf("--keep");
  const kept = keep === -1 ? undefined : process.argv[keep + 1];
  const figures = await benchMillion(option("identities", 100_000), option("rounds", 100), kept);
  if (process.argv.includes("--json")) console.log(JSON.stringify(figures));
  else {
    console.log(
      `${figures.certificates} certificates of ${figures.identities} identities, written in ${figures.fillSeconds.toFixed(0)} s, served after ${figures.startSeconds.toFixed(1)} s`,
    );
    console.table(
      figures.requests.map(({ what, items, kilobytes, p50, p99, cpu }) => ({
        what,
        items: items ?? "",
        KB: Math.round(kilobytes),
        "p50 ms": p50.toFixed(1),
        "p99 ms": p99.toFixed(1),
        "CPU ms": cpu.toFixed(1),
      })),
    );
  }
}
