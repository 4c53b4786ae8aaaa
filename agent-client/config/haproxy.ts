/** `reload: { haproxy: … }` of one certificate in agent.yml. */
import { isAbsolute, join } from "node:path";
import { openSection, readChoice, readPath, type Section } from "./section.ts";
import type { HaproxyStrategy } from "../reload/strategy.ts";
import { isSpeakable } from "../reload/runtime-api.ts";
import { defaultReloadTimeoutMs, reloadSignals } from "../reload/strategy.ts";

const keys = ["socket", "reload", "certificate", "caFile", "crlFile"];
const reloads = ["systemd", "signal", "master"] as const;

/** Where nothing is said, what is installed has these too; combined.pem only where it is asked for. */
const usualFiles: readonly unknown[] = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"];

/** `certificate` is the section that `reload` is part of: what is handed to HAProxy has to be among its files. */
export function readHaproxy(value: unknown, certificate: Section, problems: string[]): HaproxyStrategy {
  const section = openSection(value, `${certificate.path}.reload.haproxy`, keys, problems);
  const named = certificate.raw("files");
  const files = Array.isArray(named) ? (named as readonly unknown[]) : usualFiles;
  if (section === null)
    return { kind: "haproxy", socket: "", reload: null, certificate: null, caFile: null, crlFile: null };
  checkFiles(section, certificate, files);
  return {
    kind: "haproxy",
    socket: readPath(section, "socket"),
    reload: readInner(section, files, problems),
    certificate: readName(section, "certificate"),
    caFile: readName(section, "caFile"),
    crlFile: readName(section, "crlFile"),
  };
}

function checkFiles(section: Section, certificate: Section, files: readonly unknown[]): void {
  const hasPair = files.includes("key.pem") && files.includes("fullchain.pem");
  if (!files.includes("combined.pem") && !(section.has("certificate") && hasPair))
    section.problem("certificate", "is a file with the key, the leaf and its chain: add combined.pem to files");
  for (const [key, file] of [
    ["caFile", "ca.pem"],
    ["crlFile", "crl.pem"],
  ] as const) {
    if (section.has(key) && !files.includes(file)) section.problem(key, `is kept from ${file}: add it to files`);
  }
  const usual = join(certificate.text("directory") ?? "/", "current", "combined.pem");
  if (!section.has("certificate") && !isSpeakable(usual))
    section.problem("certificate", `is missing, and ${usual} has characters that HAProxy's socket does not take`);
}

/** As haproxy.cfg has it: HAProxy compares the text. */
function readName(section: Section, key: string): string | null {
  const name = section.text(key);
  if (name === undefined) return null;
  if (!isAbsolute(name)) section.problem(key, `must be an absolute path, as HAProxy has it, not "${name}"`);
  else if (!isSpeakable(name))
    section.problem(key, `has characters that HAProxy's socket does not take (space, semicolon, quotes …): rename it`);
  return name;
}

function readInner(section: Section, files: readonly unknown[], problems: string[]): HaproxyStrategy["reload"] {
  const value = section.raw("reload");
  if (value === undefined) {
    return { kind: "parent", socket: section.text("socket") ?? "", timeoutMs: defaultReloadTimeoutMs };
  }
  if (value === "none") {
    if (files.includes("ca.pem") || files.includes("crl.pem"))
      section.problem(
        "reload",
        `is none: with ca.pem or crl.pem among files some news needs a reload, because whoever was revoked could resume a session until then; leave it out, or give one of ${reloads.map((name) => `{ ${name}: … }`).join(", ")}`,
      );
    return null;
  }
  const inner = openSection(value, `${section.path}.reload`, [...reloads, "pidFile", "process"], problems);
  if (inner === null) return null;
  const chosen = reloads.filter((name) => inner.has(name));
  const [way] = chosen;
  if (way === undefined || chosen.length > 1) {
    section.problem("reload", `must say exactly one of ${reloads.join(", ")}`);
    return null;
  }
  if (way !== "signal") {
    for (const key of ["pidFile", "process"]) if (inner.has(key)) inner.problem(key, "belongs to signal only");
  }
  switch (way) {
    case "systemd":
      return { kind: "systemd", unit: inner.required("systemd") ?? "", timeoutMs: defaultReloadTimeoutMs };
    case "master":
      return { kind: "master", socket: readPath(inner, "master"), timeoutMs: defaultReloadTimeoutMs };
    case "signal":
      return {
        kind: "signal",
        signal: readChoice(inner, "signal", reloadSignals, "USR2"),
        pidFile: readPath(inner, "pidFile"),
        process: inner.text("process") ?? "haproxy",
      };
  }
}
