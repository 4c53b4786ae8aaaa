/** `npm run check`: format, lint, types, layering and the lock file, side by side. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { findViolations } from "./layering.ts";

const root = join(import.meta.dirname, "..");
const bin = (name: string): string => join(root, "node_modules", ".bin", name);

const here = [report("layering", findViolations()), report("lock file", lockFileFaults())];
const tools = await Promise.all([
  run("format", bin("oxfmt"), ["--check", "."]),
  run("lint", bin("oxlint"), ["--type-aware", "--deny-warnings"]),
  run("types", bin("tsc"), ["-p", "."]),
]);
process.exitCode = [...here, ...tools].every((ok) => ok) ? 0 : 1;

function run(name: string, command: string, args: readonly string[]): Promise<boolean> {
  const begun = performance.now();
  // The tools are scripts that look `node` up on PATH: the one that runs us has to be first.
  const path = `${join(root, "node_modules", ".bin")}:${process.env["PATH"] ?? ""}`;
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, PATH: path },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve) => {
    child.on("error", (error) => resolve(say(name, false, String(error), begun)));
    child.on("close", (code) => resolve(say(name, code === 0, output, begun)));
  });
}

function report(name: string, faults: readonly string[]): boolean {
  return say(name, faults.length === 0, faults.join("\n"), performance.now());
}

function say(name: string, ok: boolean, output: string, begun: number): boolean {
  console.log(`${ok ? "ok  " : "FAIL"} ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
  if (!ok) console.log(output.trim());
  return ok;
}

/** npm drops `gypfile` at every install, and without it older npm compiles better-sqlite3 on a stranger's machine. */
function lockFileFaults(): string[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { gypfile?: boolean; resolved?: string }>;
  };
  const faults = Object.entries(lock.packages)
    .filter(([, entry]) => entry.resolved?.startsWith("http") === true)
    .map(([name]) => `${name} carries a registry address`);
  if (lock.packages["node_modules/better-sqlite3"]?.gypfile !== false) {
    faults.push('package-lock.json: node_modules/better-sqlite3 needs "gypfile": false');
  }
  return faults;
}
