/** What comes before a server: a gateway in the inventory, and its first certificate on disk, because most servers do not start without. */
import assert from "node:assert/strict";
import { passOnce } from "../../agent-client/agent.ts";
import { enroll } from "../../agent-client/request.ts";
import type { TestHost } from "./agent.ts";
import type { TestService } from "./service.ts";

/** Adds an identity of the profile `gateway`. @returns a token for it */
export async function addGateway(service: TestService, name: string, id = "gateway-1"): Promise<string> {
  const names = { dns: [name], ip: [], uri: [], email: [] };
  await service.admin("POST", "/v1/identities", { id, profile: "gateway", names });
  return service.token(id);
}

/** Enrolls and installs; nobody is told and nothing probed. `certificate`: what else agent.yml says, `files` for example. */
export async function installFirst(
  host: TestHost,
  token: string,
  certificate: Readonly<Record<string, unknown>>,
): Promise<void> {
  host.configure({ ...certificate, reload: "watch", probe: "none" });
  await using app = await host.open();
  const [agent] = app.agents;
  assert.ok(agent);
  assert.deepEqual(await enroll(agent, token), { kind: "received" });
  const pass = await passOnce(agent, { force: false }, new AbortController().signal);
  assert.equal(pass.failed, false, host.lines.join(""));
}
