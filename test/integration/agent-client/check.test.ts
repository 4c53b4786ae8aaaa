/** What `newleaf-agent check` finds before it matters. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkCommand, enrollCommand, type Terminal } from "../../../agent-client/commands.ts";
import { createLog } from "../../../agent-client/log.ts";
import { nginxFiles, type TestHost, testHost } from "../../support/agent.ts";
import { startService, type TestService } from "../../support/service.ts";

const unserved = { files: nginxFiles, reload: "watch", probe: "none" };

test("check changes nothing, and finds what would go wrong", async () => {
  await withHost(async (_service, host) => {
    const good = capture();
    assert.equal(await checkCommand({ config: host.configFile }, good), 0, good.text.out);
    assert.match(good.text.out, /ok {3}clock within/);
    assert.match(good.text.out, /ok {3}agents listener/);
    assert.ok(!existsSync(host.state), "no state was made");

    writeFileSync(join(host.dir, "regular"), "somebody's");
    host.configure({
      files: nginxFiles,
      owner: "nobody-of-that-name",
      links: { [join(host.dir, "regular")]: "key.pem" },
      reload: { command: ["/no/such/program"] },
      probe: { connect: "127.0.0.1:1", serverName: "x" },
    });
    const bad = capture();
    assert.equal(await checkCommand({ config: host.configFile }, bad), 1);
    assert.match(bad.text.out, /fail .*nobody-of-that-name/);
    assert.match(bad.text.out, /fail .*--adopt/);
    assert.match(bad.text.out, /fail .*\/no\/such\/program/);
    assert.match(bad.text.out, /warn .*127\.0\.0\.1:1/);
    assert.equal(readFileSync(join(host.dir, "regular"), "utf8"), "somebody's");

    host.configure(unserved, { server: "https://127.0.0.1:1", enrollment: "https://127.0.0.1:1" });
    const away = capture();
    assert.equal(await checkCommand({ config: host.configFile }, away), 1);
    assert.match(away.text.out, /fail .*not reached \(ECONNREFUSED\): is the service running/);
  });
});

test("check finds a serverName that the leaf does not cover, before a renewal meets it", async () => {
  await withHost(async (service, host) => {
    const names = { dns: ["gateway.claw.internal"], ip: [], uri: [], email: [] };
    await service.admin("POST", "/v1/identities", { id: "gateway-1", profile: "gateway", names, keys: [] });
    const asked = { identity: "gateway-1", ttl: "1h" };
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", asked);
    const options = { config: host.configFile, name: null, token, waitForApproval: false, adopt: false };
    const quiet = { log: createLog(() => {}, Date.now) };
    await enrollCommand(options, capture(), new AbortController().signal, quiet);
    host.configure({ ...unserved, probe: { connect: "127.0.0.1:1", serverName: "elsewhere.claw.internal" } });
    const wrong = capture();
    assert.equal(await checkCommand({ config: host.configFile }, wrong), 1);
    assert.match(wrong.text.out, /fail .*does not cover the probe's serverName "elsewhere\.claw\.internal"/);
    host.configure({ ...unserved, probe: { connect: "127.0.0.1:1", serverName: "gateway.claw.internal" } });
    const right = capture();
    assert.equal(await checkCommand({ config: host.configFile }, right), 0, right.text.out);
  });
});

function capture(): Terminal & { readonly text: { out: string; error: string } } {
  const text = { out: "", error: "" };
  return { text, out: (more) => void (text.out += more), error: (more) => void (text.error += more) };
}

async function withHost(story: (service: TestService, host: TestHost) => Promise<void>): Promise<void> {
  await using service = await startService({});
  const host = testHost(service, join(service.dir, "host"));
  host.configure(unserved);
  await story(service, host);
}
