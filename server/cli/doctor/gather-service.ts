/** A running service, as it looks from outside: what run.json says, what ops answers, what the agents listener shows. */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import type { ServerConfig } from "../../config.ts";
import { parseAddress } from "../../config-tree.ts";
import type { CertificateFacts, ServiceFacts } from "./facts.ts";

const timeoutMs = 5000;

interface RunFile {
  readonly pid?: unknown;
  readonly version?: unknown;
  readonly configuration?: unknown;
  readonly listeners?: Readonly<Record<string, unknown>>;
}

/** Null when there is no run.json: it is stopped. */
export async function gatherService(dataDir: string, config: ServerConfig | null): Promise<ServiceFacts | null> {
  const text = await readFile(join(dataDir, "run.json"), "utf8").catch(() => null);
  if (text === null) return null;
  const run = parse(text);
  const pid = typeof run.pid === "number" ? run.pid : 0;
  const listeners = Object.fromEntries(
    Object.entries(run.listeners ?? {}).map(([name, address]) => [name, typeof address === "string" ? address : null]),
  );
  const alive = isAlive(pid);
  const about = {
    pid,
    alive,
    version: typeof run.version === "string" ? run.version : null,
    configuration: typeof run.configuration === "string" ? run.configuration : null,
    listeners,
  };
  if (!alive) return { ...about, ready: null, metrics: new Map(), certificate: null };
  const ops = addressOf(listeners["ops"]);
  const agents = addressOf(listeners["agents"]);
  return {
    ...about,
    ready: ops === null ? null : await askReady(ops),
    metrics: ops === null ? new Map() : await scrape(ops),
    certificate: agents === null ? null : await lookAtCertificate(agents, dataDir, config?.hosts ?? []),
  };
}

function parse(text: string): RunFile {
  try {
    return JSON.parse(text) as RunFile;
  } catch {
    return {};
  }
}

/** Signal 0 asks whether the process is there; one that is not ours is there all the same. */
function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

interface Place {
  readonly host: string;
  readonly port: number;
}

/** An unspecified address is one to listen on, not one to call. */
function addressOf(spelled: string | null | undefined): Place | null {
  const address = parseAddress(spelled ?? "");
  if (address === null) return null;
  const host = address.host === "0.0.0.0" ? "127.0.0.1" : address.host === "::" ? "::1" : address.host;
  return { host, port: address.port };
}

function urlOf({ host, port }: Place, path: string): string {
  return `http://${isIP(host) === 6 ? `[${host}]` : host}:${port}${path}`;
}

async function askReady(ops: Place): Promise<ServiceFacts["ready"]> {
  try {
    const response = await fetch(urlOf(ops, "/readyz"), { signal: AbortSignal.timeout(timeoutMs) });
    const body = (await response.json()) as { readonly problems?: unknown };
    const problems = Array.isArray(body.problems) ? body.problems.map(String) : [];
    return { ok: response.ok, problems };
  } catch {
    return null;
  }
}

async function scrape(ops: Place): Promise<ReadonlyMap<string, number>> {
  try {
    const response = await fetch(urlOf(ops, "/metrics"), { signal: AbortSignal.timeout(timeoutMs) });
    const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(
      lines.map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
    );
  } catch {
    return new Map();
  }
}

/** Without a certificate of our own: the listener shows its own before it asks for ours. */
async function lookAtCertificate(
  { host, port }: Place,
  dataDir: string,
  hosts: readonly string[],
): Promise<CertificateFacts | null> {
  const ca = await readFile(join(dataDir, "roots.pem")).catch(() => null);
  if (ca === null) return null;
  return new Promise((resolve) => {
    // It is looked at whatever it is; whether it holds is what is asked.
    const socket = connect({ host, port, ca, servername: "localhost", rejectUnauthorized: false, timeout: timeoutMs });
    const end = (facts: CertificateFacts | null) => {
      socket.destroy();
      resolve(facts);
    };
    socket.on("error", () => end(null));
    socket.on("timeout", () => end(null));
    socket.on("secureConnect", () => {
      const leaf = socket.getPeerX509Certificate();
      if (leaf === undefined) return end(null);
      const names = (wanted: string) =>
        isIP(wanted) === 0 ? leaf.checkHost(wanted) !== undefined : leaf.checkIP(wanted) !== undefined;
      end({
        notBefore: leaf.validFromDate.getTime(),
        notAfter: leaf.validToDate.getTime(),
        fault: socket.authorized ? null : String(socket.authorizationError),
        missing: hosts.filter((wanted) => !names(wanted)),
        protocol: socket.getProtocol() ?? "unknown protocol",
      });
    });
  });
}
