/** A host with a token whose identity needs a second operator waits for it, and is no failure meanwhile. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { enrollCommand, type Terminal } from "../../../agent-client/commands.ts";
import { createLog } from "../../../agent-client/log.ts";
import { nginxFiles, testHost, until } from "../../support/agent.ts";
import { person } from "../../support/operators.ts";
import { startService } from "../../support/service.ts";

const quiet = { log: createLog(() => {}, Date.now) };

interface Waiting {
  readonly id: string;
  readonly fingerprint: string;
  readonly state: string;
}

test("the agent with a token waits for the second operator, also when it was stopped meanwhile", async () => {
  await using service = await startService({ NEWLEAF_PROFILES_GATEWAY_APPROVALS: "2" });
  const host = testHost(service, join(service.dir, "host"));
  host.configure({ files: nginxFiles, reload: "watch", probe: "none" });
  const bob = await person(service, "bob@operators", "approver");
  await service.admin("POST", "/v1/identities", { id: "gateway-1", profile: "gateway" });
  const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", { identity: "gateway-1" });
  const text = { out: "", error: "" };
  const terminal: Terminal = { out: (more) => void (text.out += more), error: (more) => void (text.error += more) };
  const options = { config: host.configFile, name: null, token, waitForApproval: false, adopt: false };
  const requests = async (): Promise<readonly Waiting[]> =>
    (await bob.ask<{ items: readonly Waiting[] }>("GET", "/v1/approvals")).items;

  const stopping = new AbortController();
  const stopped = enrollCommand(options, terminal, stopping.signal, quiet);
  await until("the request is there", async () => (await requests()).length === 1);
  await until("the agent says so", () => text.out.includes("waits for a second operator"));
  stopping.abort();
  assert.equal(await stopped, 1);
  assert.equal(text.error, "");

  const [request] = await requests();
  assert.ok(request);
  const decision = { decision: "approve", identity: "gateway-1", fingerprint: request.fingerprint };
  await bob.ask("POST", `/v1/approvals/${request.id}/decision`, decision);
  const idle = new AbortController().signal;
  assert.equal(await enrollCommand(options, terminal, idle, quiet), 0, text.error);
  assert.match(text.out, /enrolled as gateway-1/);
  assert.equal((await requests()).length, 1, "the same key, the same request");
  // What systemd starts again with the same credential finds its work done.
  assert.equal(await enrollCommand(options, terminal, idle, quiet), 0, text.error);
  assert.match(text.out, /already enrolled as gateway-1/);
});
