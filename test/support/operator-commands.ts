import assert from "node:assert/strict";
import type { KeyObject } from "node:crypto";
import type { CertificateAnswer, PendingAnswer } from "@newleaf/shared/api";
import { createCsr } from "@newleaf/shared/csr";
import { requestJson } from "@newleaf/shared/http-client";
import { generateKey } from "@newleaf/shared/key-algorithm";
import { pemEncode } from "@newleaf/shared/pem";
import type { TestService } from "./service.ts";
import { type CommandOptions, type CommandResult, newleaf } from "./terminal.ts";

/** An identity as `--json` shows it. */
export interface Identity {
  readonly id: string;
  readonly state: string;
  readonly names: Record<string, string[]>;
  readonly keys: readonly string[];
  readonly labels: Record<string, string>;
  readonly leaf: { readonly serial: string; readonly state: string } | null;
}

export interface OperatorCommands {
  /** Runs a command against the service, whatever it ends with. */
  command(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** The command has to succeed; what it printed. */
  must(argv: readonly string[], options?: CommandOptions): Promise<string>;
  /** The command has to succeed; what it printed as JSON. */
  json<T>(...argv: string[]): Promise<T>;
  /** What a host does beside: asks for a first certificate. */
  enroll(key: KeyObject, body: { token?: string; claim?: string }): Promise<CertificateAnswer | PendingAnswer>;
  /** A new identity of profile agent, with a leaf by token. */
  enrolled(id: string): Promise<CertificateAnswer & { readonly key: KeyObject }>;
}

/** The command line of the service's first operator. */
export function operatorCommands(service: TestService): OperatorCommands {
  const commands: OperatorCommands = {
    command: (argv, options) => newleaf([...argv, "--data", service.dataDir], options),
    async must(argv, options) {
      const { code, out, err } = await commands.command(argv, options);
      assert.equal(code, 0, err);
      return out;
    },
    async json<T>(...argv: string[]): Promise<T> {
      return JSON.parse(await commands.must([...argv, "--json"])) as T;
    },
    async enroll(key, body) {
      const answer = await requestJson({
        url: `${service.urls.enrollment}/v1/enrollments`,
        method: "POST",
        body: { csr: pemEncode("CERTIFICATE REQUEST", createCsr({ key })), ...body },
        tls: { ca: service.roots },
        timeoutMs: 10_000,
        maxBytes: 100_000,
      });
      return answer.body as CertificateAnswer | PendingAnswer;
    },
    async enrolled(id) {
      await commands.must(["identity", "add", id, "--profile", "agent"]);
      const { token } = await commands.json<{ token: string }>("token", "create", id);
      const key = await generateKey("ecdsa-p256");
      return { ...((await commands.enroll(key, { token })) as CertificateAnswer), key };
    },
  };
  return commands;
}
