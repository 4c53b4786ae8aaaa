/** The commands of the agent against a real service: three ways to enroll, recovery, the lock, status and check. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fingerprint } from "@newleaf/shared/fingerprint";
import { pemDecode } from "@newleaf/shared/pem";
import {
  describeFailure,
  enrollCommand,
  keyCommand,
  readTokenOption,
  renewCommand,
  statusCommand,
  type Terminal,
} from "../../../agent-client/commands.ts";
import { createLog } from "../../../agent-client/log.ts";
import { main } from "../../../agent-client/main.ts";
import type { AgentStatus } from "../../../agent-client/status/shape.ts";
import { nginxFiles, runInBackground, type TestHost, testHost, until } from "../../support/agent.ts";
import { startService, type TestService } from "../../support/service.ts";

const idle = new AbortController().signal;
const quiet = { log: createLog(() => {}, Date.now) };
const unserved = { files: nginxFiles, reload: "watch", probe: "none" };

interface Captured extends Terminal {
  readonly text: { out: string; error: string };
}

function capture(): Captured {
  const text = { out: "", error: "" };
  return { text, out: (more) => void (text.out += more), error: (more) => void (text.error += more) };
}

async function withHost(
  env: Readonly<Record<string, string>>,
  story: (service: TestService, host: TestHost) => Promise<void>,
): Promise<void> {
  await using service = await startService(env);
  const host = testHost(service, join(service.dir, "host"));
  host.configure(unserved);
  await story(service, host);
}

function addGateway(service: TestService, keys: readonly string[] = []): Promise<unknown> {
  const names = { dns: ["gateway.claw.internal"], ip: [], uri: [], email: [] };
  return service.admin("POST", "/v1/identities", { id: "gateway-1", profile: "gateway", names, keys });
}

const enrollOptions = (host: TestHost, token: string | null, waitForApproval = false) => ({
  config: host.configFile,
  name: null,
  token,
  waitForApproval,
  adopt: false,
});

test("enroll with a token: once is enough, and the same again is no error", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    const terminal = capture();
    assert.equal(await enrollCommand(enrollOptions(host, token), terminal, idle, quiet), 0, terminal.text.error);
    assert.match(terminal.text.out, /key sha256:[0-9a-f]{64}\n.*enrolled as gateway-1, serial [0-9a-f]{32}/);
    const before = host.installed();
    assert.ok(!readdirSync(join(host.state, "gateway")).includes("request-key.pem"), "no key is left over");
    assert.equal(await enrollCommand(enrollOptions(host, token), terminal, idle, quiet), 0);
    assert.match(terminal.text.out, /already enrolled as gateway-1/);
    assert.equal(host.installed(), before);

    const other = await service.admin<{ token: string }>("POST", "/v1/tokens", { identity: "gateway-1", ttl: "1h" });
    assert.equal(await enrollCommand(enrollOptions(host, other.token), capture(), idle, quiet), 0);
    assert.notEqual(host.installed(), before, "a new token begins a new lineage, with a new key");

    await assert.rejects(enrollCommand(enrollOptions(host, token), capture(), idle, quiet), { code: "token-invalid" });
    for (const [file, mode] of [
      ["", 0o700],
      ["gateway", 0o700],
      ["gateway/journal.json", 0o600],
      ["trust.json", 0o600],
    ] as const) {
      assert.equal(statSync(join(host.state, file)).mode & 0o777, mode, file);
    }
  });
});

test("a token alone is enough to know the service; one of another service is not", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    host.configure(unserved, { roots: undefined });
    const forged = `nl1.${Buffer.concat([Buffer.from([1]), Buffer.alloc(56, 7)]).toString("base64url")}`;
    await assert.rejects(
      enrollCommand(enrollOptions(host, forged), capture(), idle, quiet),
      /does not have the root sha256:0707/,
    );
    await assert.rejects(enrollCommand(enrollOptions(host, null), capture(), idle, quiet), /no root is known yet/);
    assert.equal(await enrollCommand(enrollOptions(host, token), capture(), idle, quiet), 0);
    assert.ok(host.installed());
  });
});

test("rootFingerprint is enough to know the service", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const [root] = pemDecode(service.roots, "CERTIFICATE");
    assert.ok(root);
    host.configure(unserved, { roots: undefined, rootFingerprint: fingerprint(root) });
    const terminal = capture();
    await keyCommand({ config: host.configFile, name: null }, terminal, quiet);
    await service.admin("PATCH", "/v1/identities/gateway-1", { keys: [terminal.text.out.trim()] });
    assert.equal(await enrollCommand(enrollOptions(host, null), capture(), idle, quiet), 0);
    host.configure(unserved, {
      roots: undefined,
      rootFingerprint: `sha256:${"0".repeat(64)}`,
      state: join(host.dir, "other"),
    });
    await assert.rejects(
      enrollCommand(enrollOptions(host, null), capture(), idle, quiet),
      /does not have the root sha256:0000/,
    );
  });
});

test("enroll by an approved fingerprint: key prints it, and prints the same again", async () => {
  await withHost({}, async (service, host) => {
    const terminal = capture();
    assert.equal(await keyCommand({ config: host.configFile, name: null }, terminal, quiet), 0);
    const key = terminal.text.out.trim();
    assert.match(key, /^sha256:[0-9a-f]{64}$/);
    await keyCommand({ config: host.configFile, name: null }, terminal, quiet);
    assert.equal(terminal.text.out, `${key}\n${key}\n`);
    await addGateway(service, [key]);
    assert.equal(await enrollCommand(enrollOptions(host, null), capture(), idle, quiet), 0);
    const { current } = JSON.parse(readFileSync(join(host.state, "gateway/journal.json"), "utf8")) as {
      current: { identity: string };
    };
    assert.equal(current.identity, "gateway-1");
  });
});

test("enroll --wait-for-approval waits until an operator has decided; without it, it says what to do", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const first = capture();
    assert.equal(await enrollCommand(enrollOptions(host, null), first, idle, quiet), 1);
    assert.match(first.text.out, /waits for an operator, request ([0-9a-f]{32}): newleaf approvals approve \1 ID/);

    const waiting = enrollCommand(enrollOptions(host, null, true), capture(), idle, quiet);
    await sleep(300);
    const { items } = await service.admin<{ items: { id: string; fingerprint?: string; key?: string }[] }>(
      "GET",
      "/v1/approvals",
    );
    assert.equal(items.length, 1, "the same request, not a second one");
    const [request] = items;
    assert.ok(request);
    const decision = { decision: "approve", identity: "gateway-1", fingerprint: request.fingerprint ?? request.key };
    await service.admin("POST", `/v1/approvals/${request.id}/decision`, decision);
    assert.equal(await waiting, 0);
    assert.ok(host.installed());
  });
});

test("an expired certificate is recovered by run when an operator grants it, with the last leaf's key", async () => {
  await withHost({ NEWLEAF_PROFILES_GATEWAY_VALIDITY: "6s" }, async (service, host) => {
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    assert.equal(await enrollCommand(enrollOptions(host, token), capture(), idle, quiet), 0);
    await sleep(6200);
    const before = host.installed();
    await using app = await host.open();
    await using running = runInBackground(app);
    await until("the agent says that it is expired", () => host.lines.some((line) => line.includes(" error expired ")));
    assert.equal(host.installed(), before);
    await service.admin("POST", "/v1/identities/gateway-1/recovery-grants", { ttl: "1h" });
    await until(
      "recovered",
      () => host.lines.some((line) => line.includes(" info in-force ")) && host.installed() !== before,
    );
    await running[Symbol.asyncDispose]();
  });
});

test("renew whose set is taken back is 1, says that the one before stays, why, and what to do", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    await enrollCommand(enrollOptions(host, token), capture(), idle, quiet);
    const before = host.installed();
    host.configure({ ...unserved, check: ["/bin/false"] });
    const terminal = capture();
    const options = { config: host.configFile, name: null, force: true, adopt: false };
    assert.equal(await renewCommand(options, terminal, idle, quiet), 1);
    assert.match(terminal.text.out, /renewed, serial [0-9a-f]+; the one before stays in use;/);
    assert.match(
      terminal.text.error,
      /failed to put the new set in service: taken-back: .*: the new set was taken back: \/bin\/false/,
    );
    assert.equal(terminal.text.error.split("  do: ").length, 2, "one cause, one advice");
    assert.equal(host.installed(), before);
  });
});

test("renew: nothing due is 0, --force renews with a new key", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    await enrollCommand(enrollOptions(host, token), capture(), idle, quiet);
    const [before, key] = [host.installed(), host.file("key.pem")];
    const options = { config: host.configFile, name: null, force: false, adopt: false };
    const terminal = capture();
    assert.equal(await renewCommand(options, terminal, idle, quiet), 0);
    assert.match(terminal.text.out, /nothing was due/);
    assert.equal(host.installed(), before);
    assert.equal(await renewCommand({ ...options, force: true }, terminal, idle, quiet), 0);
    assert.match(terminal.text.out, /renewed, serial/);
    assert.notEqual(host.installed(), before);
    assert.notEqual(host.file("key.pem"), key);
  });
});

test("a suspended identity: renew --force is 1, says why, and what is installed stays", async () => {
  await withHost({}, async (service, host) => {
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    await enrollCommand(enrollOptions(host, token), capture(), idle, quiet);
    const before = host.installed();
    await service.admin("POST", "/v1/identities/gateway-1/suspension");
    const terminal = capture();
    assert.equal(
      await renewCommand({ config: host.configFile, name: null, force: true, adopt: false }, terminal, idle, quiet),
      1,
    );
    assert.match(terminal.text.error, /identity-suspended.*\n {2}do: newleaf identity resume/);
    assert.equal(host.installed(), before);
  });
});

test("a second agent on the same state is told who holds it", async () => {
  await withHost({}, async (_service, host) => {
    await using first = await host.open();
    assert.ok(first);
    await assert.rejects(host.open(), (error: unknown) => {
      assert.match(describeFailure(error), new RegExp(`in use by newleaf-agent test \\(pid ${process.pid}\\)`));
      return true;
    });
  });
});

test("a state directory that others can read is refused", async () => {
  await withHost({}, async (_service, host) => {
    await (await host.open())[Symbol.asyncDispose]();
    const { chmodSync } = await import("node:fs");
    chmodSync(host.state, 0o755);
    await assert.rejects(host.open(), /others can read the state directory .* chmod 700/);
  });
});

test("status says what there is before and after enrollment, for people and for scripts", async () => {
  await withHost({}, async (service, host) => {
    const status = async (): Promise<AgentStatus> => {
      const terminal = capture();
      assert.equal(await statusCommand({ config: host.configFile, json: true }, terminal), 0);
      return JSON.parse(terminal.text.out) as AgentStatus;
    };
    assert.equal((await status()).certificates[0]?.state, "not-enrolled");
    assert.ok(!existsSync(host.state), "looking makes nothing");
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    await enrollCommand(enrollOptions(host, token), capture(), idle, quiet);
    const [certificate] = (await status()).certificates;
    assert.equal(certificate?.state, "ok");
    assert.equal(certificate?.installed?.fingerprint, host.installed());
    assert.equal(certificate?.served.state, "not-probed");
    assert.equal(certificate?.next.action, "renew");
    const people = capture();
    await statusCommand({ config: host.configFile, json: false }, people);
    assert.match(people.text.out, /no agent is running/);
    assert.match(
      people.text.out,
      /gateway: OK\n {2}holds {4}gateway-1, serial [0-9a-f]{32}, generation 1\n {2}until .*\(in (29 d 23|30 d 0) h\)/,
    );
    assert.match(people.text.out, /next {5}renew at .* \(in (19|20|21|22|23) d/);
  });
});

test("--adopt moves a regular file aside that is in the way of a link; without it, it is refused and stays", async () => {
  await withHost({}, async (service, host) => {
    const path = join(host.dir, "server.crt");
    writeFileSync(path, "an old certificate");
    host.configure({ ...unserved, links: { [path]: "fullchain.pem" } });
    await addGateway(service);
    const { token } = await service.admin<{ token: string }>("POST", "/v1/tokens", {
      identity: "gateway-1",
      ttl: "1h",
    });
    const terminal = capture();
    assert.equal(await enrollCommand(enrollOptions(host, token), terminal, idle, quiet), 1);
    assert.match(terminal.text.error, /--adopt/);
    assert.equal(readFileSync(path, "utf8"), "an old certificate");
    const renew = { config: host.configFile, name: null, force: false, adopt: true };
    assert.equal(await renewCommand(renew, capture(), idle, quiet), 0);
    assert.match(readFileSync(path, "utf8"), /BEGIN CERTIFICATE/);
    assert.equal(readFileSync(`${path}.before-newleaf`, "utf8"), "an old certificate");
  });
});

test("a token comes from a file, from the environment, or from the command line with a warning", async () => {
  await withHost({}, async (_service, host) => {
    const file = join(host.dir, "token");
    writeFileSync(file, "nl1.abc\n");
    const terminal = capture();
    assert.equal(await readTokenOption({ tokenFile: file }, "other", terminal), "nl1.abc");
    assert.equal(await readTokenOption({}, " nl1.env ", terminal), "nl1.env");
    assert.equal(await readTokenOption({}, "", terminal), null);
    assert.equal(terminal.text.error, "");
    assert.equal(await readTokenOption({ token: "nl1.arg" }, undefined, terminal), "nl1.arg");
    assert.match(terminal.text.error, /visible .* in the process list/);
    await assert.rejects(readTokenOption({ tokenFile: join(host.dir, "none") }, undefined, terminal), {
      name: "UsageError",
      message: `the token file ${join(host.dir, "none")} cannot be read (ENOENT)`,
    });
  });
});

test("exit codes: wrong usage is 2, a configuration that is wrong is 1, help is 0", async () => {
  const [out, error] = [process.stdout.write, process.stderr.write];
  process.stdout.write = () => true;
  process.stderr.write = () => true;
  try {
    assert.equal(await main(["--help"]), 0);
    assert.equal(await main(["frobnicate"]), 2);
    assert.equal(await main(["enroll", "--token-file", "/nonexistent/token"]), 2);
    assert.equal(await main(["run", "--frobnicate"]), 2);
    assert.equal(await main(["enroll", "--token", "a", "--token-file", "b"]), 2);
    assert.equal(await main(["check", "--config", "/no/such/file"]), 1);
  } finally {
    process.stdout.write = out;
    process.stderr.write = error;
  }
});
