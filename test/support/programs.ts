import { accessSync, constants, globSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Debian package by program, where the names differ. */
const packageOf: Readonly<Record<string, string>> = {
  amtool: "prometheus-alertmanager",
  initdb: "postgresql",
  java: "default-jre-headless",
  javac: "default-jdk-headless",
  keytool: "default-jre-headless",
  nginx: "nginx-light",
  objdump: "binutils",
  pg_ctl: "postgresql",
  postgres: "postgresql",
  psql: "postgresql-client",
  promtool: "prometheus",
  "redis-cli": "redis-tools",
  "systemd-analyze": "systemd",
  "update-ca-certificates": "ca-certificates",
};

/** nginx and haproxy live in /usr/sbin, which is not on a normal user's PATH, and PostgreSQL's server on nobody's. */
const places = [
  ...(process.env["PATH"] ?? "").split(delimiter),
  "/usr/sbin",
  "/usr/local/sbin",
  "/sbin",
  ...globSync("/usr/lib/postgresql/*/bin").toSorted().toReversed(),
];

/**
 * For the `skip` option of a test that needs programs: false when all are there, else the line that says what to install.
 * @throws Error when one is missing and CI is set: there a skipped test would be a test that nobody runs
 */
export function needs(...programs: readonly string[]): string | false {
  const missing = programs.filter((program) => findProgram(program) === null);
  if (missing.length === 0) return false;
  const line = `needs ${missing.join(", ")}: apt-get install ${missing.map((name) => packageOf[name] ?? name).join(" ")}`;
  if (process.env["CI"] !== undefined) throw new Error(line);
  return line;
}

/** For the `skip` option of a test that only root can make: false when this is root, else the line that says so. */
export function needsRoot(why: string): string | false {
  return process.geteuid?.() === 0 ? false : `needs root, ${why}`;
}

/** The absolute path of a program, or null. */
export function findProgram(name: string): string | null {
  for (const place of places) {
    if (place === "") continue;
    const path = join(place, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return null;
}
