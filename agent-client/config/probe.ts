/** `probe` of one certificate in agent.yml. */
import type { CanaryConfig, CanaryFiles } from "../probe/canary.ts";
import { openSection, readChoice, readPath, type Section } from "./section.ts";
import type { HttpCheck } from "../probe/health.ts";
import { type ProofTarget, startTlsProtocols } from "../probe/probe.ts";

export interface ProbeConfig extends ProofTarget {
  /** How long a reload may take to show. */
  readonly timeoutMs: number;
}

export const defaultProbeTimeoutMs = 15_000;

const keys = ["connect", "serverName", "timeout", "startTls", "http", "canary"];

export function readProbes(section: Section, problems: string[]): readonly ProbeConfig[] {
  const value = section.raw("probe");
  if (value === undefined) {
    section.problem("probe", "is missing; say where the certificate is served, or none");
    return [];
  }
  if (value === "none") return [];
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0) section.problem("probe", "must name at least one address, or be the word none");
  return list.map((item, at) =>
    readProbe(item, Array.isArray(value) ? `${section.path}.probe[${at}]` : `${section.path}.probe`, problems),
  );
}

function readProbe(value: unknown, path: string, problems: string[]): ProbeConfig {
  const section = openSection(value, path, keys, problems);
  if (section === null) return { connect: "", serverName: "", timeoutMs: defaultProbeTimeoutMs };
  const connect = section.required("connect") ?? "";
  const port = Number(/^(?:\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(connect)?.[1] ?? "0");
  if (connect !== "" && (port < 1 || port > 65_535))
    section.problem("connect", `must be host:port or [address]:port, not "${connect}"`);
  const timeoutMs = section.duration("timeout", defaultProbeTimeoutMs);
  if (timeoutMs < 1000 || timeoutMs > 600_000) section.problem("timeout", "must lie between 1s and 10m");
  const http = readHttp(section, problems);
  const canary = readCanary(section, http, problems);
  return {
    connect,
    serverName: section.required("serverName") ?? "",
    timeoutMs,
    ...(section.has("startTls") ? { startTls: readChoice(section, "startTls", startTlsProtocols, "postgres") } : {}),
    ...(http === null ? {} : { http }),
    ...(canary === null ? {} : { canary }),
  };
}

function readHttp(parent: Section, problems: string[]): HttpCheck | null {
  const value = parent.raw("http");
  if (value === undefined || value === "none") return null;
  const section = openSection(value, `${parent.path}.http`, ["path", "status", "host"], problems);
  if (section === null) return null;
  if (parent.has("startTls")) parent.problem("http", "and startTls exclude each other: no such server speaks HTTP");
  const path = section.required("path") ?? "/";
  if (!/^\/[\x21-\x7e]{0,1000}$/.test(path))
    section.problem("path", `must begin with / and hold no spaces, not "${path}"`);
  const host = section.text("host") ?? null;
  if (host !== null && !/^[A-Za-z0-9._:[\]-]{1,255}$/.test(host))
    section.problem("host", `must be a host name, with a port if need be, not "${host}"`);
  return { path, host, status: readStatuses(section, "status", [200]) };
}

function readCanary(parent: Section, http: HttpCheck | null, problems: string[]): CanaryConfig | null {
  const value = parent.raw("canary");
  if (value === undefined || value === "none") return null;
  const path = `${parent.path}.canary`;
  const section = openSection(value, path, ["good", "revoked", "accept"], problems);
  if (section === null) return null;
  // nginx is done with the handshake before it refuses a client: without HTTP everybody would seem to be let in.
  if (!parent.has("http") && !parent.has("startTls"))
    parent.problem("canary", "needs http: { path: … } beside it, or http: none for a server that does not speak HTTP");
  if (!section.has("good") && !section.has("revoked"))
    parent.problem("canary", "must name a client: good (own, or certificate and key), revoked, or both");
  if (section.has("accept") && http === null) section.problem("accept", "needs http beside canary");
  return {
    good: section.raw("good") === "own" ? "own" : readFiles(section, "good", problems),
    revoked: readFiles(section, "revoked", problems),
    accept: readStatuses(section, "accept", http?.status ?? [200]),
  };
}

function readFiles(parent: Section, key: string, problems: string[]): CanaryFiles | null {
  const value = parent.raw(key);
  if (value === undefined) return null;
  const section = openSection(value, `${parent.path}.${key}`, ["certificate", "key"], problems);
  if (section === null) return null;
  return { certificate: readPath(section, "certificate"), key: readPath(section, "key") };
}

/** One HTTP status or a list of them. */
function readStatuses(section: Section, key: string, absent: readonly number[]): readonly number[] {
  const value = section.raw(key);
  if (value === undefined) return absent;
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  const statuses = list.map((item) =>
    typeof item === "string" && /^[2-5]\d\d$/.test(item) ? Number(item) : Number.NaN,
  );
  if (statuses.length === 0 || statuses.some(Number.isNaN))
    section.problem(key, "must be an HTTP status between 200 and 599, or a list of them");
  return statuses;
}
