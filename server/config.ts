/**
 * newleaf.yml and the environment → parsed → frozen. The only place that reads `process.env`.
 *
 * The environment overrides any key: `listen.agents` is `NEWLEAF_LISTEN_AGENTS`, camelCase becomes words, lists are
 * comma-separated, `null` is off, an empty variable counts as unset. Nothing unknown is ignored, in the file or in the environment.
 */
import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { nearest } from "@newleaf/shared/nearest";
import { AppError } from "@newleaf/shared/problems";
import { parseDocument } from "yaml";
import { z } from "zod";
import { defaultProfiles, type LeafProfile } from "./ca/profile.ts";
import { type Address, tree } from "./config-tree.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** What the service runs by. Durations are milliseconds; `null` is off. */
export interface ServerConfig {
  /** Absolute. */
  readonly dataDir: string;
  readonly caName: string;
  /** DNS names and addresses of the service, the first one for people and default URLs. */
  readonly hosts: readonly string[];
  /** Base of CRL distribution points and AIA, no slash at the end. */
  readonly publicUrl: string;
  readonly listen: {
    readonly agents: Address;
    readonly enrollment: Address;
    readonly admin: Address;
    readonly public: Address | null;
    readonly ops: Address | null;
  };
  readonly tls: { readonly minVersion: "TLSv1.3" | "TLSv1.2" };
  readonly profiles: Readonly<Record<"agent" | "gateway" | "operator" | "service", LeafProfile>>;
  /** Fractions of a leaf's life. */
  readonly renewal: { readonly at: number; readonly spread: number };
  readonly lineage: { readonly overlap: number };
  readonly crl: { readonly lifetime: number; readonly interval: number };
  /** Directory, off this machine, that every write goes to before it is answered. */
  readonly journal: string | null;
  readonly backup: {
    /** When, as cron says it. */
    readonly schedule: string | null;
    /** Absolute. */
    readonly directory: string;
    /** How many are kept. */
    readonly keep: number;
    /** age recipients (age1…); with one the backup is encrypted, and only then holds the issuing keys. */
    readonly recipients: readonly string[];
  };
  readonly audit: {
    readonly checkpoints: {
      readonly interval: number;
      /** File that each checkpoint is appended to. */
      readonly file: string | null;
      /** `udp://host:514`, `tcp://host:601`: RFC 5424 messages. */
      readonly syslog: string | null;
    };
  };
  /** How long after their end certificates are kept; audit rows always are. */
  readonly retention: { readonly expired: number | null };
  readonly metrics: { readonly perIdentityMax: number };
  readonly changes: { readonly maxHeld: number };
  readonly log: { readonly level: LogLevel };
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** The process's own; every other file gets it handed in. */
export const environment: Environment = process.env;

export const configFile = "newleaf.yml";

/** Variables that belong to the programs and are no configuration. */
const ownVariables: readonly string[] = ["NEWLEAF_DATA", "NEWLEAF_TOKEN", "NEWLEAF_NODE"];
/** Kubernetes puts these into every container when a service of the namespace is called `newleaf` or `newleaf-…`. */
const kubernetesVariable = /_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$/;

/**
 * The configuration of a data directory.
 * @throws AppError `not-found` without newleaf.yml, `request-invalid` naming every key that is unknown or wrong
 */
export function loadConfig(from: { readonly dataDir: string; readonly env?: Environment }): ServerConfig {
  const dataDir = resolve(from.dataDir);
  const file = join(dataDir, configFile);
  if (!existsSync(file)) {
    throw new AppError("not-found", `There is no ${file}. Make a data directory with: newleaf init --data ${dataDir}`);
  }
  return parseConfig({ dataDir, text: readFileSync(file, "utf8"), env: from.env ?? environment });
}

/**
 * The configuration that `text` (the content of newleaf.yml) and the environment make.
 * @throws AppError `request-invalid` naming every key that is unknown or wrong
 */
export function parseConfig(from: {
  readonly dataDir: string;
  readonly text: string;
  readonly env: Environment;
}): ServerConfig {
  const complaints: string[] = [];
  const settings = readYaml(from.text);
  const overridden = applyEnvironment(settings, from.env, complaints);
  const parsed = tree.safeParse(settings);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) complaints.push(...describeIssue(issue, overridden));
  } else {
    complaints.push(...crossChecks(parsed.data));
  }
  if (complaints.length > 0 || !parsed.success) {
    throw new AppError(
      "request-invalid",
      `The configuration in ${join(from.dataDir, configFile)} does not hold:\n  ${complaints.join("\n  ")}`,
    );
  }
  return freeze(toConfig(from.dataDir, parsed.data));
}

/**
 * `--data`, else NEWLEAF_DATA, else ./newleaf-data, else /var/lib/newleaf; the last two if they exist. When neither does (a first
 * `init`) it is ./newleaf-data.
 */
export function resolveDataDir(flag: string | undefined, env: Environment = environment): string {
  if (flag !== undefined) return resolve(flag);
  const fromEnvironment = env["NEWLEAF_DATA"];
  if (fromEnvironment !== undefined && fromEnvironment !== "") return resolve(fromEnvironment);
  const here = resolve("newleaf-data");
  const system = "/var/lib/newleaf";
  return existsSync(here) || !existsSync(system) ? here : system;
}

/** `http://<first host>:8080`, the default of `publicUrl`. */
export function defaultPublicUrl(hosts: readonly string[]): string {
  const first = hosts[0] ?? "localhost";
  return `http://${isIP(first) === 6 ? `[${first}]` : first}:8080`;
}

function toConfig(dataDir: string, data: z.output<typeof tree>): ServerConfig {
  return {
    ...data,
    dataDir,
    publicUrl: data.publicUrl ?? defaultPublicUrl(data.hosts),
    backup: { ...data.backup, directory: data.backup.directory ?? join(dataDir, "backups") },
    tls: { minVersion: data.tls.minVersion === "1.2" ? "TLSv1.2" : "TLSv1.3" },
    profiles: {
      agent: { ...defaultProfiles.agent, ...data.profiles.agent },
      gateway: { ...defaultProfiles.gateway, ...data.profiles.gateway },
      operator: { ...defaultProfiles.operator, ...data.profiles.operator },
      service: { ...defaultProfiles.service },
    },
  };
}

function crossChecks(data: z.output<typeof tree>): string[] {
  const complaints: string[] = [];
  if (data.renewal.at + data.renewal.spread >= 1) {
    complaints.push("renewal.at and renewal.spread together reach the end of a leaf's life; their sum must be below 1");
  }
  if (data.crl.interval >= data.crl.lifetime) {
    complaints.push("crl.interval must be shorter than crl.lifetime, else every CRL is stale before the next one");
  }
  return complaints;
}

interface Leaf {
  readonly path: readonly string[];
  readonly variable: string;
  readonly schema: z.ZodType;
}

/** Every key of the configuration, with its environment variable. */
function leavesOf(schema: z.ZodType, path: readonly string[]): Leaf[] {
  const inner = schema instanceof z.ZodPipe ? schema.out : schema;
  if (inner instanceof z.ZodObject) {
    const shape: Readonly<Record<string, z.ZodType>> = inner.shape;
    return Object.entries(shape).flatMap(([key, child]) => leavesOf(child, [...path, key]));
  }
  return [{ path, variable: variableOf(path), schema }];
}

/** `metrics.perIdentityMax` → `NEWLEAF_METRICS_PER_IDENTITY_MAX`. */
function variableOf(path: readonly string[]): string {
  return `NEWLEAF_${path.map((word) => word.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join("_")}`;
}

/** Dotted names of every key, and the variable of each. */
export function configKeys(): readonly { readonly key: string; readonly variable: string }[] {
  return leavesOf(tree, []).map((leaf) => ({ key: leaf.path.join("."), variable: leaf.variable }));
}

type Settings = Record<string, unknown>;

function readYaml(text: string): Settings {
  const document = parseDocument(text, { uniqueKeys: true });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) throw new AppError("request-invalid", `${configFile} is not YAML: ${problem.message}`);
  const value: unknown = document.toJS({ maxAliasCount: 10 });
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw new AppError("request-invalid", `${configFile} must be a mapping of keys to values`);
  }
  return value as Settings;
}

/** Puts the values of the environment over those of the file. Returns dotted key → variable of what it put. */
function applyEnvironment(settings: Settings, env: Environment, complaints: string[]): ReadonlyMap<string, string> {
  const leaves = leavesOf(tree, []);
  const overridden = new Map<string, string>();
  for (const [variable, text] of Object.entries(env)) {
    if (
      text === undefined ||
      text === "" ||
      !variable.startsWith("NEWLEAF_") ||
      ownVariables.includes(variable) ||
      kubernetesVariable.test(variable)
    )
      continue;
    const leaf = leaves.find((candidate) => candidate.variable === variable);
    if (leaf === undefined) {
      const known = nearest(variable, [...leaves.map((candidate) => candidate.variable), ...ownVariables]);
      complaints.push(
        `the environment variable ${variable} is not a known setting${known === null ? "" : `; did you mean ${known}?`}`,
      );
      continue;
    }
    put(settings, leaf.path, environmentValue(leaf.schema, text));
    overridden.set(leaf.path.join("."), variable);
  }
  return overridden;
}

function environmentValue(schema: z.ZodType, text: string): unknown {
  if (schema.safeParse(text).success) return text;
  if (schema.safeParse([]).error?.issues[0]?.code !== "invalid_type")
    return text
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  if (text === "null") return null;
  if (text === "true" || text === "false") return text === "true";
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function put(settings: Settings, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path;
  if (key === undefined) return;
  if (rest.length === 0) {
    settings[key] = value;
    return;
  }
  const child = settings[key];
  const next: Settings =
    typeof child === "object" && child !== null && !Array.isArray(child) ? (child as Settings) : {};
  settings[key] = next;
  put(next, rest, value);
}

function describeIssue(issue: z.core.$ZodIssue, overridden: ReadonlyMap<string, string>): string[] {
  const path = issue.path.map(String).filter((part) => !/^\d+$/.test(part));
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const asked = [...path, key].join(".");
      const siblings = knownNames().filter(
        (name) => name.split(".").length === path.length + 1 && name.startsWith(path.join(".")),
      );
      const known = nearest(asked, siblings) ?? nearest(asked, knownNames());
      return `${asked} is not a known key${known === null ? "" : `; did you mean ${known}?`}`;
    });
  }
  const key = path.join(".");
  const variable = overridden.get(key);
  return [`${variable === undefined ? key : `${variable} (${key})`}: ${issue.message}`];
}

/** Keys and the sections they stand in. */
function knownNames(): string[] {
  const names = new Set<string>();
  for (const { path } of leavesOf(tree, [])) {
    for (let depth = 1; depth <= path.length; depth++) names.add(path.slice(0, depth).join("."));
  }
  return [...names];
}

function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const child of Object.values(value)) freeze(child);
  }
  return value;
}
