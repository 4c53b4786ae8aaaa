/** What goes on while a set is on its way back: CRLs keep pace, a dead server is started, a refusal is told from a broken reload. */
import assert from "node:assert/strict";
import { chmodSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { passOnce } from "../../../agent-client/agent.ts";
import { type AgentContext, newView } from "../../../agent-client/context.ts";
import { openJournal } from "../../../agent-client/journal.ts";
import { probeOnce } from "../../../agent-client/probe/probe.ts";
import { nginxFiles, until } from "../../support/agent.ts";
import { enrolled } from "../../support/agent-client.ts";
import { idle, serverName, settleAgent, type Story, tell } from "../../support/agent-story.ts";
import { startNginx } from "../../support/nginx.ts";
import { needs } from "../../support/programs.ts";

/** The agent with other settings of the certificate. */
function configured({ host, agent }: Story, settings: Readonly<Record<string, unknown>>): AgentContext {
  const [config] = host.configure({ files: nginxFiles, ...settings }).certificates;
  assert.ok(config);
  return { ...agent, config };
}

/** Somebody is revoked, and the agent hears of it. */
async function revokeSomebody({ service, agent }: Story, name: string): Promise<void> {
  const somebody = await enrolled(service, name);
  await service.admin("POST", "/v1/revocations", { serial: somebody.answer.serial, reason: "keyCompromise" });
  agent.trust.checkedAt = null;
}

test("a leaf that was taken back does not keep the newest CRL from the proxy", async () => {
  await tell({}, async (story) => {
    const { host, agent, proxy, pass, settle } = story;
    const before = host.installed();
    const version = readlinkSync(host.current);
    proxy.mode = "broken";
    assert.equal((await pass(true)).failed, true);
    const { quarantine, next } = agent.journal.state;
    assert.equal(quarantine?.row, "broke");
    assert.equal(quarantine.leaf, next?.fingerprint, "the leaf is blamed");
    assert.equal(readlinkSync(host.current), version);

    const crl = host.file("crl.pem");
    await revokeSomebody(story, "client-1");
    await settle();
    assert.equal(host.installed(), before, "still the old leaf");
    assert.notEqual(host.file("crl.pem"), crl, "with the newest CRL");
    assert.notEqual(readlinkSync(host.current), version);
    const { told, served, notServed, retries } = agent.journal.state;
    assert.deepEqual([told?.fingerprint, served?.fingerprint, notServed], [before, before, null]);
    assert.ok(retries.quarantine.notBefore > Date.now(), "the new leaf goes on waiting");
    assert.equal(agent.journal.state.quarantine?.leaf, next?.fingerprint);

    proxy.mode = "follow";
    assert.equal((await pass()).failed, false, host.lines.join(""));
    assert.equal(host.installed(), next?.fingerprint);
    assert.equal(agent.journal.state.quarantine, null);
  });
});

test("a reload that refuses the new set has it taken back; the one before is not refused, so the reload is believed", async () => {
  await tell({}, async (story) => {
    const { host, agent, proxy } = story;
    const before = host.installed();
    proxy.mode = "stuck";
    const good = readlinkSync(host.current);
    const probe = { connect: proxy.connect, serverName, timeout: "1s" };
    const command = [
      "sh",
      "-c",
      `test "$(readlink ${host.current})" = "${good}" || { echo bad configuration; exit 1; }`,
    ];
    const strict = configured(story, { reload: { command }, probe });
    assert.equal((await passOnce(strict, { force: true }, idle)).failed, true);
    assert.equal(host.installed(), before, "the server would start from what is on disk");
    const { quarantine, notServed, reloadSuspect, retries } = agent.journal.state;
    assert.deepEqual([quarantine?.row, notServed, reloadSuspect], ["refused", null, false]);
    assert.match(retries.quarantine.error?.message ?? "", /bad configuration/);
    assert.equal((await settleAgent(strict)).action, "wait");
    assert.equal(host.installed(), before);
  });
});

test("new CRLs that the reload refuses are taken back, and later ones are tried at once", async () => {
  await tell({}, async (story) => {
    const { host, agent, proxy } = story;
    const good = readlinkSync(host.current);
    const crl = host.file("crl.pem");
    const verdict = join(host.dir, "verdict");
    writeFileSync(verdict, `#!/bin/sh\ntest "$(readlink ${host.current})" = "${good}"\n`);
    chmodSync(verdict, 0o700);
    const probe = { connect: proxy.connect, serverName, timeout: "2s" };
    const strict = configured(story, { reload: { command: [verdict] }, probe });
    await revokeSomebody(story, "client-1");
    await settleAgent(strict);
    assert.equal(host.file("crl.pem"), crl, "the CRL before is back");
    assert.equal(agent.journal.state.quarantine?.row, "refused-unseen");
    assert.equal(agent.journal.state.quarantine.leaf, null);

    writeFileSync(verdict, "#!/bin/sh\n");
    await revokeSomebody(story, "client-2");
    await settleAgent(strict);
    assert.notEqual(host.file("crl.pem"), crl, host.lines.join(""));
    const { quarantine, served, told } = agent.journal.state;
    assert.equal(quarantine, null);
    assert.equal(served?.version, told?.version);
  });
});

test("a server that dies of a set is started again, with the set before", { skip: needs("nginx") }, async () => {
  await tell({}, async (story) => {
    const { host, agent } = story;
    const before = host.installed();
    const nginx = await startNginx({
      dir: join(host.dir, "nginx"),
      certificate: join(host.current, "fullchain.pem"),
      key: join(host.current, "key.pem"),
    });
    const look = () => probeOnce({ connect: `127.0.0.1:${nginx.port}`, serverName, timeoutMs: 2000 });
    try {
      const probe = { connect: `127.0.0.1:${nginx.port}`, serverName, timeout: "1s" };
      // As Apache does when it is to reload a bad set.
      const die = [
        "sh",
        "-c",
        `kill $(cat ${nginx.pidFile}); while kill -0 $(cat ${nginx.pidFile}); do sleep 0.05; done`,
      ];
      const start = ["sh", "-c", `nginx -c ${nginx.config} >/dev/null 2>&1 & sleep 0.3`];
      const mortal = configured(story, { reload: { command: die }, start, probe });
      await settleAgent(mortal);
      assert.equal(agent.journal.state.notServed, null);

      assert.equal((await passOnce(mortal, { force: true }, idle)).failed, true);
      assert.equal(host.installed(), before);
      assert.equal(agent.journal.state.quarantine?.row, "died", host.lines.join(""));
      const seen = await look();
      assert.ok("fingerprint" in seen && seen.fingerprint === before, "started, with the old leaf");
      assert.deepEqual([agent.journal.state.notServed, agent.journal.state.healthyBefore], [null, null]);
      assert.ok(host.lines.some((line) => line.includes(" warn start ")));
    } finally {
      await nginx.stop();
      // The second one is the agent's child's: nobody else ends it.
      const pid = Number(readFileSync(nginx.pidFile, "utf8").trim() || "0");
      if (pid > 0) process.kill(pid, "SIGQUIT");
      await until("nginx is gone", async () => "error" in (await look()));
    }
  });
});

test("a server that was down before the switch is not started: an operator may have stopped it", async () => {
  await tell({}, async (story) => {
    const { host, agent, proxy } = story;
    const trace = join(host.dir, "started");
    const probe = { connect: proxy.connect, serverName, timeout: "1s" };
    const stopped = configured(story, { reload: "watch", start: ["touch", trace], probe });
    await proxy.stop();
    await passOnce(stopped, { force: true }, idle);
    assert.equal(agent.journal.state.notServed?.row, "down-before");
    assert.throws(() => readFileSync(trace), { code: "ENOENT" });
  });
});

test("a crash anywhere on the way back ends with the old leaf served and the new one waiting", async () => {
  await tell({}, async (story) => {
    const { host, agent, proxy, pass } = story;
    for (const place of ["link-switched", "proxy-told", "served", "quarantined", "rolled-back"]) {
      const before = host.installed();
      proxy.mode = "broken";
      const crash = new AbortController();
      const mortal: AgentContext = {
        ...agent,
        checkpoint(name) {
          if (name !== place) return;
          crash.abort();
          throw new Error(`ended at ${name}`);
        },
      };
      await passOnce(mortal, { force: true }, crash.signal);
      assert.ok(crash.signal.aborted, place);

      const journal = await openJournal(join(host.state, "gateway"));
      const revived: AgentContext = { ...agent, journal, view: newView() };
      await settleAgent(revived);
      assert.equal(host.installed(), before, `${place}: the old leaf is on disk`);
      const { next, quarantine, retries, notServed } = journal.state;
      assert.ok(next !== null && quarantine?.leaf === next.fingerprint, `${place}: the new one is blamed`);
      assert.ok(retries.quarantine.notBefore > Date.now(), `${place}: and waits`);
      assert.equal(notServed, null, place);
      const seen = await probeOnce({ connect: proxy.connect, serverName, timeoutMs: 2000 });
      assert.ok("fingerprint" in seen && seen.fingerprint === before, `${place}: served`);

      proxy.mode = "follow";
      await agent.journal.update(journal.state);
      assert.equal((await pass()).failed, false, host.lines.join(""));
      assert.equal(host.installed(), next.fingerprint);
    }
  });
});
