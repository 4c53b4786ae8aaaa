/**
 * The server of stand-in.ts, a process of its own: HTTPS with WebSockets that takes new certificates as one of the servers does that
 * Debian does not ship. Handlers of signals are those that server has, and no others: what kills it kills this one.
 */
import { existsSync, readFileSync, statSync, watch, watchFile } from "node:fs";
import { createServer } from "node:https";
import { basename, dirname, join } from "node:path";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { pemDecode, pemEncode } from "@newleaf/shared/pem";
import type { StandInPlan } from "./stand-in.ts";
import { startTicks } from "./web-socket-ticks.ts";

const plan = JSON.parse(process.argv[2] ?? "") as StandInPlan;
/** OpenClaw refuses larger files. */
const maxFileBytes = 64 * 1024;
const pollMs = 1000;
const settleMs = 300;

const say = (line: string): void => void process.stdout.write(`${new Date().toISOString()} ${line}\n`);
/** What a start reads and a reload does not. */
const atStart = { ca: plan.ca === null ? null : readFileSync(plan.ca, "utf8") };

let lacksCertificate = false;

const server = createServer(
  { ...load(), requestCert: plan.ca !== null, rejectUnauthorized: plan.ca !== null, SNICallback: strictly },
  (call, answer) => {
    call.resume();
    const isHealth = call.url === "/health" || call.url === "/healthz";
    const body = isHealth ? '{"ok":true,"status":"live"}' : "ok\n";
    answer.writeHead(200, { "Content-Length": Buffer.byteLength(body) }).end(body);
  },
);
server.keepAliveTimeout = 0;
server.on("upgrade", startTicks);
server.on("tlsClientError", () => undefined);
server.listen(plan.port, "127.0.0.1", () => say("listening"));
// Node calls its main thread by a name of its own.
if (plan.takes === "hup") process.title = basename(process.execPath);
const takes = { "watch-files": watchFiles, "watched-directory": watchDirectory, "dynamic-file": watchDynamicFile, hup };
takes[plan.takes]();

/** OpenClaw: a poll of each path, and what changed is read when it has been quiet for a moment. */
function watchFiles(): void {
  let settling: NodeJS.Timeout | undefined;
  const settle = (): void => {
    clearTimeout(settling);
    settling = setTimeout(() => {
      try {
        server.setSecureContext(load());
        say("gateway TLS certificate renewed without restarting listeners");
      } catch (error) {
        say(`gateway TLS renewal failed; keeping accepted material: ${(error as Error).message}`);
      }
    }, settleMs);
  };
  for (const path of [plan.certificate, plan.key, ...(plan.ca === null ? [] : [plan.ca])])
    watchFile(path, { interval: pollMs }, settle);
}

/** Envoy's file SDS: any move into the watched directory, and nothing else; all secrets are read again at once. */
function watchDirectory(): void {
  watch(plan.watched, (event, name) => {
    // `rename` is said of moves, and of files made and removed: a change of content is none of them.
    if (event !== "rename" || name === null || !existsSync(join(plan.watched, name))) return;
    say(`moved ${name}`);
    try {
      server.setSecureContext(load());
      say("secrets updated");
    } catch (error) {
      say(`secrets rejected: ${(error as Error).message}`);
    }
  });
}

/**
 * Traefik: its dynamic configuration only, which is read with the files it names. A pair it cannot load is left out, and with
 * `sniStrict` nobody gets a handshake for a name without a certificate.
 */
function watchDynamicFile(): void {
  watch(dirname(plan.watched), (_event, name) => {
    if (name !== basename(plan.watched) || !existsSync(plan.watched)) return;
    try {
      server.setSecureContext(load());
      lacksCertificate = false;
      say("configuration loaded");
    } catch (error) {
      lacksCertificate = true;
      say(`unable to append certificate to store: ${(error as Error).message}`);
    }
  });
}

/** Vault's listener: HUP reads certificate and key again; the CAs for client certificates stay those of the start. */
function hup(): void {
  process.on("SIGHUP", () => {
    try {
      server.setSecureContext(load());
      say("reloaded");
    } catch (error) {
      say(`error(s) were encountered during reload: ${(error as Error).message}`);
    }
  });
}

function strictly(_name: string, done: (error: Error | null) => void): void {
  done(lacksCertificate ? new Error("strict SNI: no certificate for this name") : null);
}

/** @throws Error for a pair that does not fit */
function load(): SecureContextOptions {
  const isHup = plan.takes === "hup";
  const ca = plan.ca === null ? null : isHup ? atStart.ca : readFileSync(plan.ca, "utf8");
  const options: SecureContextOptions = {
    cert: read(plan.certificate),
    key: read(plan.key),
    ...(ca === null ? {} : { ca }),
    // One CRL each: of a text with several Node reads the first.
    ...(plan.crl === null ? {} : { crl: crlsOf(plan.crl) }),
    minVersion: plan.takes === "watch-files" ? "TLSv1.3" : "TLSv1.2",
  };
  createSecureContext(options);
  return options;
}

function read(path: string): string {
  const { size } = statSync(path);
  if (plan.takes === "watch-files" && size > maxFileBytes) throw new Error(`${path} is larger than ${maxFileBytes}`);
  return readFileSync(path, "utf8");
}

function crlsOf(path: string): string[] {
  return pemDecode(readFileSync(path, "utf8"), "X509 CRL").map((der) => pemEncode("X509 CRL", der));
}
