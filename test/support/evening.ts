/** A new operator's evening: the programs as they are installed, one service, and hosts with an agent each, all as processes. */
import { spawn } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { serve, type ServiceProcess } from "./service-process.ts";

const bin = join(import.meta.dirname, "../../bin");

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** One program, to its end. Nothing of this test's environment that would change what it does. */
export function runProgram(
  name: "newleaf" | "newleaf-agent",
  args: readonly string[],
  { input = "", env = {} }: { input?: string; env?: Readonly<Record<string, string>> } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(bin, name), args, { env: { ...process.env, NEWLEAF_NODE: process.execPath, ...env } });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? -1, out, err }));
    child.stdin.on("error", () => undefined).end(input);
  });
}

/** It has to end with `expected`; what it printed. */
export async function must(ran: Promise<Ran>, expected = 0): Promise<string> {
  const { code, out, err } = await ran;
  if (code !== expected) throw new Error(`ended with ${code}, not ${expected}:\n${out}\n${err}`);
  return out;
}

export interface EveningService {
  readonly dataDir: string;
  readonly process: ServiceProcess;
  /** `newleaf … --data` of this service, as its first operator unless `--as` is among the arguments. */
  command(...args: string[]): Promise<Ran>;
  /** It has to succeed. */
  run(...args: string[]): Promise<string>;
  json<T>(...args: string[]): Promise<T>;
}

export const firstOperator = "admin@operators";

export async function startEveningService(
  dataDir: string,
  env: Readonly<Record<string, string>>,
): Promise<EveningService> {
  const started = await serve(dataDir, env);
  const service: EveningService = {
    dataDir,
    process: started,
    command(...args) {
      const who = args.includes("--as") ? [] : ["--as", firstOperator];
      return runProgram("newleaf", [...args, "--data", dataDir, ...who]);
    },
    run: (...args) => must(service.command(...args)),
    async json<T>(...args: string[]) {
      return JSON.parse(await service.run(...args, "--json")) as T;
    },
  };
  return service;
}

export interface EveningHost {
  readonly id: string;
  readonly dir: string;
  /** The installed set. */
  readonly current: string;
  agent(...args: string[]): Promise<Ran>;
  /** With a token on its stdin. */
  enrollWith(token: string): Promise<string>;
  /** Where the agent finds the service from now on. */
  speakTo(service: EveningService): void;
  /** Another host with a copy of everything: state, keys, files. */
  copyTo(dir: string): EveningHost;
  read(file: string): string;
}

export function eveningHost(
  service: EveningService,
  dir: string,
  id: string,
  certificate: Readonly<Record<string, unknown>> = {},
): EveningHost {
  const config = join(dir, "agent.yml");
  const directory = join(dir, "tls");
  mkdirSync(dir, { recursive: true });
  const host: EveningHost = {
    id,
    dir,
    current: join(directory, "current"),
    agent(command = "", ...args) {
      return runProgram("newleaf-agent", [command, "--config", config, ...args]);
    },
    enrollWith: (token) =>
      must(runProgram("newleaf-agent", ["enroll", "--config", config, "--token-file", "-"], { input: token })),
    speakTo({ process: { urls }, dataDir }) {
      const settings = {
        server: urls.agents,
        enrollment: urls.enrollment,
        roots: join(dataDir, "roots.pem"),
        state: join(dir, "state"),
        certificates: [{ name: "host", directory, reload: "watch", probe: "none", ...certificate }],
      };
      writeFileSync(config, stringify(settings));
    },
    copyTo(to) {
      cpSync(dir, to, { recursive: true, verbatimSymlinks: true });
      chmodSync(join(to, "state"), 0o700);
      const copy = eveningHost(service, to, id, certificate);
      copy.speakTo(service);
      return copy;
    },
    read: (file) => readFileSync(join(directory, "current", file), "utf8"),
  };
  host.speakTo(service);
  return host;
}
