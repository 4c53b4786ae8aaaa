/** Who may import whom, over the import specifiers: the sentence of docs/architecture.md as a table. Part of `npm run check`. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const root = join(import.meta.dirname, "..");

/** Room → the rooms whose code it may run. A room always may import itself and `shared`; types may come from anywhere in the same program. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  "server/ca": ["server/x509.ts"],
  "server/x509.ts": [],
  "server/keys": ["server/ca"],
  "server/store": ["server/audit-chain.ts"],
  "server/audit-chain.ts": [],
  "server/audit-checkpoint.ts": ["server/audit-chain.ts"],
  "server/audit-verify.ts": ["server/audit-chain.ts", "server/audit-checkpoint.ts"],
  "server/off-box": [],
  "server/authority": ["server/ca", "server/store", "server/audit-chain.ts", "server/audit-checkpoint.ts"],
  "server/http": ["server/authority", "server/version.ts"],
  "server/backup": ["server/authority", "server/keys", "server/store", "server/audit-chain.ts"],
  "server/jobs": ["server/authority"],
  "server/jobs/cron-time.ts": [],
  "server/cli": [
    "server/authority",
    "server/backup",
    "server/ca",
    "server/keys",
    "server/store",
    "server/config.ts",
    "server/config-tree.ts",
    "server/config-template.ts",
    "server/data-directory.ts",
    "server/app.ts",
    "server/version.ts",
    "server/audit-chain.ts",
    "server/audit-checkpoint.ts",
    "server/audit-verify.ts",
  ],
  "server/data-directory.ts": ["server/config.ts"],
  "server/config.ts": ["server/ca", "server/config-tree.ts"],
  "server/config-tree.ts": ["server/ca", "server/jobs/cron-time.ts"],
  "server/config-template.ts": ["server/config.ts", "server/ca"],
  "server/webcrypto-globals.d.ts": [],
  "server/events.ts": ["server/audit-checkpoint.ts"],
  "server/metrics.ts": [],
  "server/version.ts": [],
  "server/app.ts": ["server"],
  "server/main.ts": ["server"],
  "agent-client/decide": [],
  "agent-client": [],
};

/** Package → the only places that may import it. */
const packages: Readonly<Record<string, readonly string[]>> = {
  express: ["server/http"],
  "age-encryption": ["server/backup"],
  "better-sqlite3": ["server/store/sqlite"],
  "node-cron": ["server/jobs"],
  "@peculiar/x509": ["server/x509.ts"],
  "reflect-metadata": ["server/x509.ts"],
  "prom-client": ["server/metrics.ts"],
  pino: ["server/app.ts"],
  zod: ["server/config.ts", "server/config-tree.ts", "server/http", "server/cli"],
  yaml: ["server/config.ts", "server/config-template.ts", "server/cli", "agent-client"],
  commander: ["server/main.ts", "server/cli", "agent-client"],
};

const importForm = /^(?:import|export)\s(?<clause>[^;]*?)from\s+"(?<path>[^"]+)"|^import\s+"(?<bare>[^"]+)"/gm;

export function findViolations(): string[] {
  const files = ["shared", "server", "agent-client"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts") && !name.includes("node_modules"))
      .map((name) => join(folder, name)),
  );
  return files.flatMap((file) => violationsOf(file, readFileSync(join(root, file), "utf8")));
}

function violationsOf(file: string, source: string): string[] {
  const room = roomOf(file);
  if (room === undefined) return [`${file}: has no room in the table of test/layering.ts`];
  const found: string[] = [];
  for (const { groups } of source.matchAll(importForm)) {
    const path = groups?.["path"] ?? groups?.["bare"] ?? "";
    const isType = (groups?.["clause"] ?? "").startsWith("type ");
    const problem = path.startsWith(".") ? judgeLocal(file, room, path, isType) : judgePackage(file, path, isType);
    if (problem !== null) found.push(`${file}: ${problem}`);
  }
  return found;
}

function judgeLocal(file: string, room: string, path: string, isType: boolean): string | null {
  const target = relative(root, join(root, dirname(file), path));
  if (target.split("/")[0] !== file.split("/")[0]) return `${path} leaves its package`;
  const targetRoom = roomOf(target) ?? target;
  const allowed = [room, ...(rooms[room] ?? [])];
  if (isType || allowed.some((place) => isWithin(target, place))) return null;
  return `${room} may not import ${targetRoom} (${path})`;
}

function judgePackage(file: string, path: string, isType: boolean): string | null {
  if (path.startsWith("node:") || path.startsWith("@newleaf/shared/")) return null;
  const name = path
    .split("/")
    .slice(0, path.startsWith("@") ? 2 : 1)
    .join("/");
  const places = packages[name];
  if (places === undefined) return `${name} is not in the table of packages`;
  return isType || places.some((place) => isWithin(file, place))
    ? null
    : `${name} may be imported only by ${places.join(", ")}`;
}

/** The longest room that holds the file. */
function roomOf(file: string): string | undefined {
  return Object.keys(rooms)
    .filter((place) => isWithin(file, place))
    .toSorted((a, b) => b.length - a.length)[0];
}

function isWithin(file: string, place: string): boolean {
  return file === place || file.startsWith(`${place}/`);
}
