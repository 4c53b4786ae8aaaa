/** A host with an agent: its directories, its agent.yml, and the agent in this process, with a log that tests can read. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { X509Certificate, createPrivateKey } from "node:crypto";
import { join } from "node:path";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { stringify } from "yaml";
import { type AgentApp, type AgentOverrides, openAgent } from "../../agent-client/app.ts";
import { type AgentConfig, loadConfig } from "../../agent-client/config/config.ts";
import { createLog } from "../../agent-client/log.ts";
import type { TestService } from "./service.ts";

export interface TestHost {
  readonly dir: string;
  readonly configFile: string;
  readonly state: string;
  /** `current` of the one certificate, which is called `gateway`. */
  readonly current: string;
  readonly lines: readonly string[];
  /** Writes agent.yml anew with other settings of the certificate. */
  configure(certificate: Readonly<Record<string, unknown>>, agent?: Readonly<Record<string, unknown>>): AgentConfig;
  open(overrides?: AgentOverrides, options?: { adopt?: boolean }): Promise<AgentApp>;
  file(name: string): string;
  /** Fingerprint of the leaf on disk, after checking that the set is whole: key and leaf are a pair, nobody else can read the key. */
  installed(): string;
}

export function testHost(
  service: Pick<TestService, "urls" | "rootsFile">,
  dir: string,
  directory = join(dir, "gateway"),
): TestHost {
  const state = join(dir, "state");
  const configFile = join(dir, "agent.yml");
  const current = join(directory, "current");
  const lines: string[] = [];
  mkdirSync(dir, { recursive: true });
  const host: TestHost = {
    dir,
    configFile,
    state,
    current,
    lines,
    configure(certificate, agent = {}) {
      const settings = {
        server: service.urls.agents,
        enrollment: service.urls.enrollment,
        roots: service.rootsFile,
        state,
        ...agent,
        certificates: [{ name: "gateway", directory, ...certificate }],
      };
      writeFileSync(configFile, stringify(settings));
      return loadConfig(configFile);
    },
    open(overrides = {}, options = {}) {
      const log = createLog((line) => void lines.push(line), Date.now);
      const config = loadConfig(configFile);
      return openAgent(config, { purpose: "test", name: null, ...options }, { log, ...overrides });
    },
    file: (name) => readFileSync(join(current, name), "utf8"),
    installed() {
      const leaf = new X509Certificate(host.file("fullchain.pem"));
      const key = createPrivateKey(host.file("key.pem"));
      if (!leaf.checkPrivateKey(key)) throw new Error("key and certificate on disk are no pair");
      const mode = statSync(join(current, "key.pem")).mode & 0o777;
      if (mode !== 0o600) throw new Error(`key.pem has mode ${mode.toString(8)}`);
      for (const name of ["ca.pem", "crl.pem"])
        if (!existsSync(join(current, name))) throw new Error(`${name} is missing`);
      return fingerprint(leaf.raw);
    },
  };
  return host;
}

export const nginxFiles = ["key.pem", "fullchain.pem", "ca.pem", "crl.pem"];

/** Polls until `holds` does. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** `app.run`, which ends when it is disposed of, however the test ends. */
export function runInBackground(app: AgentApp): AsyncDisposable {
  const stopping = new AbortController();
  const running = app.run(stopping.signal);
  return {
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await running;
    },
  };
}
