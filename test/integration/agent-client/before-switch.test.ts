/** Clients that pin leaves learn of the next one before it is served: `beforeSwitch`, and `nextFingerprint` at the service. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { takeStep } from "../../../agent-client/agent.ts";
import { enrollCommand, renewCommand } from "../../../agent-client/commands.ts";
import { type AgentContext, newView } from "../../../agent-client/context.ts";
import { openJournal } from "../../../agent-client/journal.ts";
import { createLog } from "../../../agent-client/log.ts";
import { formatStatus, readStatus } from "../../../agent-client/status/status.ts";
import { loadConfig } from "../../../agent-client/config/config.ts";
import { nginxFiles, testHost } from "../../support/agent.ts";
import { enrolled } from "../../support/agent-client.ts";
import { idle, serverName, settleAgent, type Story, tell } from "../../support/agent-story.ts";
import { startService } from "../../support/service.ts";

const minute = 60_000;

function announcing({ host, agent, proxy }: Story, command: readonly string[], wait: string): AgentContext {
  const probe = { connect: proxy.connect, serverName, timeout: "2s" };
  const settings = { files: nginxFiles, reload: "watch", probe, beforeSwitch: { command, wait } };
  const [config] = host.configure(settings).certificates;
  assert.ok(config);
  return { ...agent, config };
}

async function renewed(agent: AgentContext): Promise<string> {
  agent.view.forced = true;
  assert.equal((await takeStep(agent, idle)).action, "renew");
  const { next } = agent.journal.state;
  assert.ok(next);
  return next.fingerprint;
}

test("the next leaf is published by command and by the service, waited for across a restart, and then served", async () => {
  await tell({}, async (story) => {
    const { service, host, agent } = story;
    const before = host.installed();
    const trace = join(host.dir, "trace");
    const command = ["sh", "-c", `env | grep ^NEWLEAF_ | sort > ${trace}`];
    const patient = announcing(story, command, "4s");
    const next = await renewed(patient);
    const waiting = await settleAgent(patient);
    assert.deepEqual([waiting.action, waiting.next], ["wait", "install"]);
    assert.equal(host.installed(), before, "not switched yet");
    assert.equal(agent.journal.state.step, "announced");
    const at = agent.journal.state.announced?.at ?? 0;

    const told = Object.fromEntries(
      readFileSync(trace, "utf8")
        .trim()
        .split("\n")
        .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
    );
    assert.deepEqual(told, {
      NEWLEAF_CERTIFICATE: "gateway",
      NEWLEAF_CURRENT_FINGERPRINT: before,
      NEWLEAF_CURRENT_FINGERPRINT_HEX: before.slice(7),
      NEWLEAF_NEXT_FINGERPRINT: next,
      NEWLEAF_NEXT_FINGERPRINT_HEX: next.slice(7),
      NEWLEAF_NEXT_NOT_AFTER: new Date(agent.journal.state.next?.notAfter ?? 0).toISOString(),
    });
    const known = await service.admin<{ nextFingerprint: string | null }>("GET", "/v1/identities/gateway-1");
    assert.equal(known.nextFingerprint, next, "the service publishes it, too");
    const status = await readStatus(loadConfig(host.configFile), Date.now());
    assert.equal(status.certificates[0]?.state, "announced");
    assert.match(formatStatus(status), /announced.*switches? at/i);

    // A revocation does not wait for the leaf.
    const crl = host.file("crl.pem");
    const somebody = await enrolled(service, "client-1");
    await service.admin("POST", "/v1/revocations", { serial: somebody.answer.serial, reason: "keyCompromise" });
    agent.trust.checkedAt = null;
    // And the wait is on the disk: the next process goes on with it.
    const journal = await openJournal(join(host.state, "gateway"));
    const revived: AgentContext = { ...patient, journal, view: newView() };
    await settleAgent(revived);
    assert.notEqual(host.file("crl.pem"), crl);
    assert.equal(host.installed(), before);
    assert.equal(journal.state.announced?.at, at, "announced once");

    await sleep(Math.max(0, at + 4000 - Date.now()));
    const after = await settleAgent(revived);
    assert.equal(after.action, "wait");
    assert.equal(host.installed(), next, host.lines.join(""));
    assert.equal(journal.state.current?.fingerprint, next);
    assert.ok(!host.lines.some((line) => line.includes("switched-unannounced")));
  });
});

test("a command that fails is tried again, and the old leaf goes on meanwhile", async () => {
  await tell({}, async (story) => {
    const { host, agent } = story;
    const before = host.installed();
    const flag = join(host.dir, "flag");
    const eager = announcing(story, ["test", "-e", flag], "0s");
    const next = await renewed(eager);
    await settleAgent(eager);
    assert.equal(host.installed(), before);
    const { error } = agent.journal.state.retries.announce;
    assert.equal(error?.code, "before-switch");
    assert.match(error.message, /the command of beforeSwitch failed: .*exit code 1/);
    assert.equal(existsSync(flag), false);

    const { retries } = agent.journal.state;
    await agent.journal.update({ retries: { ...retries, announce: { ...retries.announce, notBefore: 0 } } });
    await settleAgent(announcing(story, ["true"], "0s"));
    assert.equal(host.installed(), next);
    assert.equal(agent.journal.state.retries.announce.error, null);
  });
});

test("what cannot be announced is switched to before the leaf in service ends, and said aloud", async () => {
  let ahead = 0;
  const clock = { now: () => Date.now() + ahead };
  await tell({ env: { NEWLEAF_PROFILES_GATEWAY_VALIDITY: "1h" }, clock }, async (story) => {
    const { host, agent } = story;
    const before = host.installed();
    const { notAfter = 0 } = agent.journal.state.current ?? {};
    const mute = announcing(story, ["false"], "1h");
    await renewed(mute);
    await settleAgent(mute);
    assert.equal(host.installed(), before);
    // The margin is a tenth of the leaf's life.
    ahead = notAfter - 7 * minute - Date.now();
    // The service does not live in this future: what it would issue now is over in minutes.
    const { retries } = agent.journal.state;
    const ask = { ...retries.ask, notBefore: notAfter };
    await agent.journal.update({ retries: { ...retries, ask } });
    await settleAgent(mute);
    assert.equal(host.installed(), before, "not before");
    ahead = notAfter - 5 * minute - Date.now();
    await settleAgent(mute);
    assert.notEqual(host.installed(), before);
    assert.ok(
      host.lines.some((line) => line.includes(" error switched-unannounced ")),
      host.lines.join(""),
    );
  });
});

test("renew by a timer announces in one pass and switches in a later one, and each says what it did", async () => {
  await using service = await startService();
  const token = await service.token("gateway-1", { dns: [serverName], ip: [], uri: [], email: [] });
  const host = testHost(service, join(service.dir, "host"));
  const beforeSwitch = { command: ["true"], wait: "2s" };
  host.configure({ files: nginxFiles, reload: "watch", probe: "none", beforeSwitch });
  const one = { config: host.configFile, name: null, adopt: false };
  const log = { log: createLog(() => undefined, Date.now) };
  const said = { out: "", error: "" };
  const terminal = {
    out: (text: string) => void (said.out += text),
    error: (text: string) => void (said.error += text),
  };
  assert.equal(await enrollCommand({ ...one, token, waitForApproval: false }, terminal, idle, log), 0);
  const before = host.installed();
  assert.equal(await renewCommand({ ...one, force: true }, terminal, idle, log), 0, said.error);
  assert.match(said.out, /renewed, serial [0-9a-f]+; announced, the one before stays in use until 20/);
  assert.equal(host.installed(), before);
  await sleep(2100);
  assert.equal(await renewCommand({ ...one, force: false }, terminal, idle, log), 0, said.error);
  assert.match(said.out, /nothing was due; installed; until/);
  assert.notEqual(host.installed(), before);
});
