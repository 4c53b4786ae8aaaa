/**
 * What `newleaf login` leaves on an operator's own machine, one directory for each operator of each service:
 *
 *   ${XDG_CONFIG_HOME:-~/.config}/newleaf/NAME/login.json   where the service is, and who one is there
 *                                             roots.pem    what its certificates come from
 *                                             key.pem …    as in operator-files.ts
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { writeFileDurably } from "@newleaf/shared/durable-file";
import { AppError } from "@newleaf/shared/problems";
import { z } from "zod";
import type { Environment } from "../../config.ts";

const url = z.url({ protocol: /^https$/ });
const schema = z.strictObject({ operator: z.string().min(1), server: url, agents: url, enrollment: url });

/** URLs of the listeners, and the operator's identity. */
export type LoginRecord = z.output<typeof schema>;

export interface LoginProfile extends LoginRecord {
  readonly name: string;
  readonly directory: string;
  /** PEM. */
  readonly roots: string;
}

const recordFile = "login.json";
const rootsFile = "roots.pem";

/** The directory of all logins of this user. */
export function loginsDirectory(env: Environment): string {
  const config = env["XDG_CONFIG_HOME"];
  // XDG Base Directory Specification: a relative path is to be ignored.
  return join(
    config !== undefined && isAbsolute(config) ? config : join(env["HOME"] ?? homedir(), ".config"),
    "newleaf",
  );
}

/** Names of the logins there are, in order. What an unfinished login left begins with a dot and is none. */
export function listLogins(env: Environment): readonly string[] {
  const directory = loginsDirectory(env);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => !name.startsWith(".") && isLogin(join(directory, name)))
    .toSorted();
}

export function isLogin(directory: string): boolean {
  return existsSync(join(directory, recordFile));
}

/** @throws AppError conflict when it is damaged */
export function readLogin(directory: string): LoginProfile {
  const file = join(directory, recordFile);
  try {
    const record = schema.parse(JSON.parse(readFileSync(file, "utf8")));
    const roots = readFileSync(join(directory, rootsFile), "utf8");
    return { ...record, name: directory.split("/").at(-1) ?? directory, directory, roots };
  } catch (cause) {
    const why = cause instanceof z.ZodError ? "it is not what newleaf login writes" : (cause as Error).message;
    throw new AppError("conflict", `${file} cannot be used: ${why}. Log in again with newleaf login`, { cause });
  }
}

/** Writes both files, 0600, into a directory that is there. */
export async function writeLogin(directory: string, record: LoginRecord, roots: string): Promise<void> {
  await writeFileDurably(join(directory, rootsFile), roots, { mode: 0o600 });
  await writeFileDurably(join(directory, recordFile), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}
