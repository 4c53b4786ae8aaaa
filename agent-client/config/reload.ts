/** `reload` of one certificate in agent.yml. */
import { openSection, readArgv, readChoice, readPath, type Section } from "./section.ts";
import { readHaproxy } from "./haproxy.ts";
import { parseControlAddress } from "../reload/control-address.ts";
import {
  type CaddyStrategy,
  defaultReloadTimeoutMs,
  type RedisStrategy,
  reloadSignals,
  type ReloadStrategy,
} from "../reload/strategy.ts";

const strategies = ["systemd", "signal", "command", "touch", "haproxy", "caddy", "redis"] as const;

export function readReload(parent: Section, problems: string[]): ReloadStrategy {
  const fallback: ReloadStrategy = { kind: "watch" };
  const value = parent.raw("reload");
  if (value === undefined) {
    parent.problem(
      "reload",
      `is missing and has no default; it is one of ${strategies.map((name) => `{ ${name}: … }`).join(", ")} or watch`,
    );
    return fallback;
  }
  if (value === "watch") return fallback;
  if (typeof value === "string") {
    parent.problem(
      "reload",
      `is "${value.slice(0, 40)}"; it is one of ${strategies.map((name) => `{ ${name}: … }`).join(", ")} or watch`,
    );
    return fallback;
  }
  const section = openSection(value, `${parent.path}.reload`, [...strategies, "pidFile", "process"], problems);
  if (section === null) return fallback;
  const chosen = strategies.filter((name) => section.has(name));
  const [strategy] = chosen;
  if (strategy === undefined || chosen.length > 1) {
    parent.problem("reload", `must say exactly one of ${strategies.join(", ")}, or the word watch`);
    return fallback;
  }
  if (strategy !== "signal") {
    for (const key of ["pidFile", "process"]) if (section.has(key)) section.problem(key, "belongs to signal only");
  }
  return strategyOf(parent, section, strategy, problems);
}

function strategyOf(
  certificate: Section,
  section: Section,
  name: (typeof strategies)[number],
  problems: string[],
): ReloadStrategy {
  switch (name) {
    case "systemd":
      return { kind: "systemd", unit: section.required("systemd") ?? "", timeoutMs: defaultReloadTimeoutMs };
    case "command":
      return { kind: "command", argv: readArgv(section, "command") ?? [], timeoutMs: defaultReloadTimeoutMs };
    case "touch":
      return { kind: "touch", file: readPath(section, "touch") };
    case "haproxy":
      return readHaproxy(section.raw("haproxy"), certificate, problems);
    case "caddy":
      return readCaddy(section, problems);
    case "redis":
      return readRedis(section, problems);
    case "signal":
      return {
        kind: "signal",
        signal: readChoice(section, "signal", reloadSignals, "HUP"),
        pidFile: readPath(section, "pidFile"),
        process: section.required("process") ?? "",
      };
  }
}

function readCaddy(parent: Section, problems: string[]): CaddyStrategy {
  const section = openSection(parent.raw("caddy"), `${parent.path}.caddy`, ["admin", "config"], problems);
  const admin = section?.required("admin") ?? "";
  const config = section?.has("config") === true ? readPath(section, "config") : null;
  if (section !== null && !isHere(section, "admin", admin)) {
    section.problem(
      "admin",
      "must be on this host: a Unix socket or a loopback address, as whoever reaches it owns Caddy",
    );
  }
  return { kind: "caddy", admin, config, timeoutMs: defaultReloadTimeoutMs };
}

function readRedis(parent: Section, problems: string[]): RedisStrategy {
  const known = ["connect", "user", "passwordFile", "tls"];
  const section = openSection(parent.raw("redis"), `${parent.path}.redis`, known, problems);
  const connect = section?.required("connect") ?? "";
  const strategy = { kind: "redis", connect, timeoutMs: defaultReloadTimeoutMs } as const;
  if (section === null) return { ...strategy, user: null, passwordFile: null, tls: null };
  const passwordFile = section.has("passwordFile") ? readPath(section, "passwordFile") : null;
  const user = section.text("user") ?? null;
  if (user !== null && passwordFile === null) section.problem("passwordFile", "is missing: user needs one");
  const tls = section.has("tls")
    ? openSection(section.raw("tls"), `${section.path}.tls`, ["serverName"], problems)
    : null;
  if (!isHere(section, "connect", connect) && !section.has("tls")) {
    section.problem("connect", "must be on this host (a Unix socket or a loopback address), or `tls` must be there");
  }
  return {
    ...strategy,
    user,
    passwordFile,
    tls: tls === null ? null : { serverName: tls.required("serverName") ?? "" },
  };
}

/** Whether what is sent there stays on this host; true also for what cannot be read, which is a problem of its own. */
function isHere(section: Section, key: string, text: string): boolean {
  if (text === "") return true;
  try {
    const address = parseControlAddress(text);
    return "socketPath" in address || address.isLoopback;
  } catch (error) {
    section.problem(key, `is wrong: ${(error as Error).message}, or the absolute path of a Unix socket`);
    return true;
  }
}
