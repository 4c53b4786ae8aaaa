/** One entry of `certificates` in agent.yml. */
import { type KeyAlgorithm, keyAlgorithms } from "@newleaf/shared/key-algorithm";
import { type ProbeConfig, readProbes } from "./probe.ts";
import { outputKeys, readOutputs } from "./outputs.ts";
import { readReload } from "./reload.ts";
import { openSection, readArgv, readChoice, readPath, type Section } from "./section.ts";
import type { Target } from "../install/target.ts";
import type { ReloadStrategy } from "../reload/strategy.ts";

export interface CertificateConfig {
  /** Names the certificate in commands, logs and metrics, and its directory in `state`. */
  readonly name: string;
  readonly key: KeyAlgorithm;
  readonly newKeyEachRenewal: boolean;
  /** Where and how it is installed. */
  readonly target: Target;
  readonly reload: ReloadStrategy;
  /** The server's own configuration check, argv without a shell. */
  readonly check: readonly string[] | null;
  /** Starts the server when it died of a set, argv without a shell. Null: the unit of `reload` is started, if there is one. */
  readonly start: readonly string[] | null;
  /** Tells those who pin leaves of the next one, and gives them time. */
  readonly beforeSwitch: BeforeSwitch | null;
  /** Empty: `none` was said. */
  readonly probes: readonly ProbeConfig[];
}

export interface BeforeSwitch {
  readonly argv: readonly string[];
  readonly timeoutMs: number;
  /** Between the command and the switch. */
  readonly waitMs: number;
}

const beforeSwitchTimeoutMs = 60_000;
const longestWaitMs = 7 * 24 * 3_600_000;
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const identityKeys = ["name", "key", "newKeyEachRenewal"];
const fileKeys = ["directory", "owner", "group", "mode", ...outputKeys];
const keys = [...identityKeys, ...fileKeys, "reload", "check", "start", "beforeSwitch", "probe"];

export function readCertificate(value: unknown, path: string, problems: string[]): CertificateConfig | null {
  const section = openSection(value, path, keys, problems);
  if (section === null) return null;
  const name = section.required("name") ?? "";
  if (name !== "" && !namePattern.test(name))
    section.problem("name", "must be letters, digits, dot, dash, underscore; at most 64");
  return {
    name,
    key: readChoice(section, "key", keyAlgorithms, "ecdsa-p256"),
    newKeyEachRenewal: section.flag("newKeyEachRenewal", true),
    target: {
      directory: readPath(section, "directory"),
      owner: readAccount(section, "owner"),
      group: readAccount(section, "group"),
      mode: readMode(section),
      ...readOutputs(section, name, problems),
    },
    reload: readReload(section, problems),
    check: readArgv(section, "check") ?? null,
    start: readArgv(section, "start") ?? null,
    beforeSwitch: readBeforeSwitch(section, problems),
    probes: readProbes(section, problems),
  };
}

function readBeforeSwitch(parent: Section, problems: string[]): BeforeSwitch | null {
  const value = parent.raw("beforeSwitch");
  if (value === undefined) return null;
  const section = openSection(value, `${parent.path}.beforeSwitch`, ["command", "wait"], problems);
  if (section === null) return null;
  if (!section.has("command"))
    section.problem("command", "is missing; say what tells the clients, such as [/usr/local/bin/publish-pin]");
  if (!section.has("wait"))
    section.problem("wait", "is missing; say how long clients need to learn of it, such as 10m");
  const waitMs = section.duration("wait", 0);
  if (waitMs > longestWaitMs) section.problem("wait", "must be at most 7d: the new certificate only ages meanwhile");
  return { argv: readArgv(section, "command") ?? [], timeoutMs: beforeSwitchTimeoutMs, waitMs };
}

function readAccount(section: Section, key: string): string | number | null {
  const text = section.text(key);
  if (text === undefined || text === "null") return null;
  if (/^\d{1,10}$/.test(text)) return Number(text);
  if (!/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/.test(text)) section.problem(key, `must be a name or a number, not "${text}"`);
  return text;
}

/** Octal as chmod takes it: `0600`, `640`, `0o640`. */
function readMode(section: Section): number {
  const text = section.text("mode");
  if (text === undefined) return 0o600;
  const match = /^(?:0o?)?([0-7]{3})$/.exec(text);
  const mode = Number.parseInt(match?.[1] ?? "0", 8);
  if (match === null || (mode & 0o400) === 0 || (mode & 0o133) !== 0) {
    section.problem(
      "mode",
      `must be an octal file mode between 0400 and 0644 without execute or foreign write bits, not "${text}"`,
    );
  }
  return mode;
}
