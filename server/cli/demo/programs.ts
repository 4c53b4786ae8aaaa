/** Where the other programs of the demo are. */
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, dirname, extname, join } from "node:path";
import type { Environment } from "../../config.ts";

/** This program's entry, of the same build: TypeScript in a checkout, JavaScript when installed. */
export const serverEntry = join(import.meta.dirname, "..", "..", `main${extname(import.meta.filename)}`);

export interface Whereabouts {
  /** Directory of this program's code. */
  readonly code: string;
  /** How it was called: `node_modules/.bin/newleaf`. */
  readonly launcher: string | undefined;
}

const ours: Whereabouts = { code: import.meta.dirname, launcher: process.argv[1] };

/**
 * The agent: beside us in a checkout, beside our own launcher when installed, else on PATH.
 * @returns null when it is not installed
 */
export function findAgent(env: Environment, { code, launcher }: Whereabouts = ours): string | null {
  const up = ancestors(code);
  const candidates = [
    ...up.filter((directory) => existsSync(join(directory, "agent-client"))).map((root) => join(root, "bin")),
    ...(launcher === undefined ? [] : [dirname(launcher)]),
    ...up.map((directory) => join(directory, "node_modules", ".bin")),
    ...searchPath(env),
  ];
  return firstExecutable(candidates, "newleaf-agent");
}

/**
 * Debian and its kin keep daemons in sbin, which is not on a normal user's PATH: for every bin on PATH the sbin beside it is
 * looked at too.
 */
export function findDaemon(env: Environment, name: string): string | null {
  const places = searchPath(env);
  const beside = places.filter((place) => /\/bin\/?$/.test(place)).map((place) => place.replace(/bin\/?$/, "sbin"));
  return firstExecutable([...places, ...beside], name);
}

function firstExecutable(directories: readonly string[], name: string): string | null {
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      continue;
    }
  }
  return null;
}

function searchPath(env: Environment): string[] {
  return (env["PATH"] ?? "").split(delimiter).filter((place) => place !== "");
}

function ancestors(directory: string): string[] {
  const parent = dirname(directory);
  return parent === directory ? [directory] : [directory, ...ancestors(parent)];
}
