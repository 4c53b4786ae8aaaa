/** agent.yml → parsed → frozen. Nothing unknown is ignored; every problem of the file is named at once. */
import { readFileSync } from "node:fs";
import { isFingerprint } from "@newleaf/shared/fingerprint";
import { parse } from "yaml";
import { type CertificateConfig, readCertificate } from "./certificate.ts";
import { openSection, readPath, type Section } from "./section.ts";
import { readSystemTrustSettings, type SystemTrust } from "../trust/system-trust.ts";

export type { CertificateConfig } from "./certificate.ts";
export type { ProbeConfig } from "./probe.ts";

export const defaultConfigFile = "/etc/newleaf/agent.yml";
export const defaultState = "/var/lib/newleaf-agent";

const maxConfigBytes = 1_000_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface AgentConfig {
  /** Base URL of the agents listener, no slash at the end. */
  readonly server: string;
  /** Base URL of the enrollment listener. */
  readonly enrollment: string;
  /** PEM file of the roots a human put here; null when the first contact goes by `rootFingerprint` or a token. */
  readonly roots: string | null;
  readonly rootFingerprint: string | null;
  /** Directory, absolute. */
  readonly state: string;
  /** Where `/metrics` is served; null is off. */
  readonly metrics: Address | null;
  /** File for node_exporter's textfile collector; null is none. */
  readonly textfile: string | null;
  /** The system's own trust store gets the bundle's roots; null: it does not. */
  readonly systemTrust: SystemTrust | null;
  readonly certificates: readonly CertificateConfig[];
}

/** What is wrong with a configuration file. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];

  constructor(file: string, problems: readonly string[]) {
    super(`${file}: ${problems.length === 1 ? (problems[0] ?? "") : `\n  - ${problems.join("\n  - ")}`}`);
    this.problems = problems;
  }
}

/**
 * Reads and judges a configuration file.
 * @throws ConfigError naming every problem
 */
export function loadConfig(file: string): AgentConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(file, [`cannot be read: ${(error as Error).message}; name another one with --config`]);
  }
  return parseConfig(text, file);
}

/** @throws ConfigError naming every problem */
export function parseConfig(text: string, file: string): AgentConfig {
  if (text.length > maxConfigBytes) throw new ConfigError(file, [`is longer than ${maxConfigBytes} bytes`]);
  let tree: unknown;
  try {
    tree = parse(text, { schema: "failsafe" });
  } catch (error) {
    throw new ConfigError(file, [`is not YAML: ${(error as Error).message}`]);
  }
  const problems: string[] = [];
  const config = readAgent(tree, problems);
  if (config === null || problems.length > 0) throw new ConfigError(file, problems);
  return deepFreeze(config);
}

const addressKeys = ["server", "enrollment", "metrics"];
const keys = [...addressKeys, "roots", "rootFingerprint", "state", "textfile", "systemTrust", "certificates"];

function readAgent(tree: unknown, problems: string[]): AgentConfig | null {
  const section = openSection(tree, "", keys, problems);
  if (section === null) return null;
  const rootFingerprint = section.text("rootFingerprint") ?? null;
  if (rootFingerprint !== null && !isFingerprint(rootFingerprint)) {
    section.problem("rootFingerprint", "must be sha256: and 64 hex digits in lower case");
  }
  if (section.has("roots") && rootFingerprint !== null)
    section.problem("roots", "and rootFingerprint exclude each other");
  return {
    server: readUrl(section, "server"),
    enrollment: readUrl(section, "enrollment"),
    roots: section.has("roots") ? readPath(section, "roots") : null,
    rootFingerprint,
    state: section.has("state") ? readPath(section, "state") : defaultState,
    metrics: readAddress(section, "metrics"),
    textfile: readTextfile(section),
    systemTrust: readSystemTrustSettings(section, problems),
    certificates: readCertificates(section, problems),
  };
}

function readCertificates(section: Section, problems: string[]): readonly CertificateConfig[] {
  const list = section.raw("certificates");
  if (!Array.isArray(list) || list.length === 0) {
    section.problem("certificates", "must be a list with at least one certificate");
    return [];
  }
  const certificates = list
    .map((item: unknown, at) => readCertificate(item, `certificates[${at}]`, problems))
    .filter((item) => item !== null);
  const places = certificates.flatMap(({ target }) => Object.keys({ ...target.links, ...target.copies }));
  for (const [what, values] of [
    ["name", certificates.map((certificate) => certificate.name)],
    ["directory", certificates.map((certificate) => certificate.target.directory)],
    ["path", places],
  ] as const) {
    const twice = values.find((value, at) => value !== "" && values.indexOf(value) !== at);
    if (twice !== undefined) section.problem("certificates", `use the ${what} "${twice}" twice`);
  }
  return certificates;
}

function readUrl(section: Section, key: string): string {
  const text = section.required(key);
  if (text === undefined) return "";
  const url = URL.parse(text);
  const bare = url !== null && url.search === "" && url.hash === "" && url.username === "" && url.password === "";
  if (!bare || url.protocol !== "https:")
    section.problem(key, `must be an https:// address, not "${text.slice(0, 80)}"`);
  return text.replace(/\/+$/, "");
}

function readAddress(section: Section, key: string): Address | null {
  const text = section.text(key);
  if (text === undefined || text === "null") return null;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    section.problem(key, `must be host:port or null, not "${text}"`);
    return null;
  }
  return { host: match[1] ?? match[2] ?? "", port };
}

function readTextfile(section: Section): string | null {
  if (!section.has("textfile") || section.raw("textfile") === "null") return null;
  const path = readPath(section, "textfile");
  // node_exporter reads no other files.
  if (path !== "" && !path.endsWith(".prom")) section.problem("textfile", `must end in .prom, not "${path}"`);
  return path;
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value !== "object" || value === null) return value;
  for (const part of Object.values(value)) deepFreeze(part);
  return Object.freeze(value);
}
