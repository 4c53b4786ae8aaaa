/** What the agent does when a new set is not served: the table of roll-back, against a real service and a proxy that misbehaves. */
import assert from "node:assert/strict";
import { readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { passOnce, takeStep } from "../../../agent-client/agent.ts";
import type { AgentContext } from "../../../agent-client/context.ts";
import { nginxFiles } from "../../support/agent.ts";
import { enrolled } from "../../support/agent-client.ts";
import { idle, serverName, tell } from "../../support/agent-story.ts";
import { startFileProxy } from "../../support/file-proxy.ts";

test("a set that breaks the proxy is taken back, the old leaf is served again, and the service hears of it", async () => {
  await tell({}, async ({ service, host, agent, proxy, pass }) => {
    const before = host.installed();
    const version = readlinkSync(host.current);
    proxy.mode = "broken";
    const result = await pass(true);
    assert.equal(result.failed, true);
    assert.equal(host.installed(), before, "the old set is on disk");
    assert.equal(readlinkSync(host.current), version);
    const { current, next, notServed, retries } = agent.journal.state;
    assert.ok(next !== null && next.fingerprint !== before, "the new leaf is kept");
    assert.equal(current?.fingerprint, before, "and the agent speaks with the old one");
    assert.equal(notServed, null, "what is installed is served");
    assert.match(retries.quarantine.error?.message ?? "", /the new set was taken back/);
    assert.ok(retries.quarantine.notBefore > Date.now() + 1000, "it is not tried again at once");
    const known = await service.admin<{ failure?: { message: string } }>("GET", "/v1/identities/gateway-1");
    assert.match(known.failure?.message ?? "", /the new set was taken back/);

    proxy.mode = "follow";
    const again = await pass();
    assert.equal(again.failed, false, host.lines.join(""));
    assert.equal(host.installed(), next.fingerprint, "the same leaf, in a version of its own");
    assert.equal(agent.journal.state.current?.fingerprint, next.fingerprint);
    assert.equal(agent.journal.state.retries.quarantine.failures, 0);
  });
});

test("a healthy proxy that does not listen keeps the new files: installed, not served, until it does", async () => {
  await tell({}, async ({ host, agent, proxy, pass }) => {
    const before = host.installed();
    proxy.mode = "stuck";
    const result = await pass(true);
    assert.equal(result.failed, true);
    const onDisk = host.installed();
    assert.notEqual(onDisk, before, "the new files stay");
    const { next, notServed, retries, current } = agent.journal.state;
    assert.equal(next?.fingerprint, onDisk);
    assert.equal(current?.fingerprint, before, "the old leaf goes on speaking");
    assert.match(notServed?.detail ?? "", /./);
    assert.equal(retries.serve.error?.step, "served");

    proxy.mode = "follow";
    assert.equal((await pass()).failed, false);
    assert.equal(agent.journal.state.current?.fingerprint, onDisk);
    assert.equal(agent.journal.state.notServed, null);
  });
});

test("a reload that failed is named where the consequence is: in the failure, and at the service", async () => {
  await tell(
    { certificate: { reload: { command: ["/bin/false"] } } },
    async ({ service, host, agent, proxy, pass }) => {
      proxy.mode = "stuck";
      assert.equal((await pass(true)).failed, true);
      const { error } = agent.journal.state.retries.serve;
      assert.equal(error?.code, "not-served");
      assert.match(error.message, /still served: .*; the reload had failed: .*\/bin\/false.*exit code 1/);
      const known = await service.admin<{ failure?: { message: string } }>("GET", "/v1/identities/gateway-1");
      assert.match(known.failure?.message ?? "", /the reload had failed/);
      assert.ok(
        host.lines.some((line) => line.includes(" warn reload ")),
        "not hidden among what went well",
      );
    },
  );
});

test("a proxy that is down when its certificate is renewed is not the new set's fault: the files stay", async () => {
  await tell({}, async ({ host, agent, proxy, pass }) => {
    const before = host.installed();
    const port = Number(proxy.connect.split(":")[1]);
    await proxy.stop();
    // Noticed before the renewal: the proxy was not well.
    await pass();
    assert.notEqual(agent.journal.state.notServed, null);
    await pass(true);
    assert.notEqual(host.installed(), before);
    assert.equal(
      readFileSync(join(host.state, "gateway", "journal.json"), "utf8").includes('"notServed":{'),
      true,
      "durable",
    );
    const revived = await startFileProxy(host.current, port);
    try {
      assert.equal((await pass()).failed, false, host.lines.join(""));
      assert.equal(agent.journal.state.current?.fingerprint, host.installed());
    } finally {
      await revived.stop();
    }
  });
});

test("when the old leaf is over there is no way back: the new one stays, served or not", async () => {
  await tell({ env: { NEWLEAF_PROFILES_GATEWAY_VALIDITY: "12s" } }, async ({ host, agent, proxy, pass }) => {
    const before = host.installed();
    // So that the new one lives on for long enough after the old one.
    await sleep(4000);
    proxy.mode = "broken";
    await pass(true);
    assert.equal(host.installed(), before, "taken back while the old one is in date");
    const over = (agent.journal.state.current?.notAfter ?? 0) - Date.now();
    await sleep(over + 100);
    await pass();
    assert.notEqual(host.installed(), before, host.lines.join(""));
    assert.notEqual(agent.journal.state.notServed, null);
    proxy.mode = "follow";
    assert.equal((await pass()).failed, false, host.lines.join(""));
    assert.equal(agent.journal.state.current?.fingerprint, host.installed());
  });
});

test("a set that fails the server's own check is taken back before the proxy hears of it", async () => {
  await tell({}, async ({ host, agent, proxy }) => {
    const before = host.installed();
    const flag = join(host.dir, "no-such-file");
    const reloaded = join(host.dir, "reloaded");
    // The check fails whatever is on disk; the reload would leave a trace.
    const probe = { connect: proxy.connect, serverName, timeout: "1s" };
    const { certificates } = host.configure({
      files: nginxFiles,
      reload: { command: ["touch", reloaded] },
      check: ["test", "-e", flag],
      probe,
    });
    const [config] = certificates;
    assert.ok(config);
    const checked: AgentContext = { ...agent, config };
    const result = await passOnce(checked, { force: true }, idle);
    assert.equal(result.failed, true);
    assert.equal(host.installed(), before);
    assert.throws(() => readFileSync(reloaded), { code: "ENOENT" });
    assert.match(agent.journal.state.retries.quarantine.error?.message ?? "", /test -e/);
  });
});

test("a CRL that only got fresher changes the files and reloads nothing; one that revokes does", async () => {
  await tell({}, async ({ service, host, agent, proxy }) => {
    const traces = join(host.dir, "reloads");
    const probe = { connect: proxy.connect, serverName, timeout: "2s" };
    const command = ["sh", "-c", `echo x >> ${traces}`];
    const { certificates } = host.configure({ files: nginxFiles, reload: { command }, probe });
    const [config] = certificates;
    assert.ok(config);
    const counted: AgentContext = { ...agent, config };
    const reloads = (): number => {
      try {
        return readFileSync(traces, "utf8").length / 2;
      } catch {
        return 0;
      }
    };
    const before = host.file("crl.pem");
    const { items } = await service.admin<{ items: { id: string; kind: string }[] }>("GET", "/v1/issuers");
    const issuer = items.find(({ kind }) => kind === "intermediate");
    assert.ok(issuer, JSON.stringify(items));
    await service.admin("POST", `/v1/crls/${issuer.id}/publication`);
    assert.equal((await passOnce(counted, { force: false }, idle)).failed, false, host.lines.join(""));
    assert.notEqual(host.file("crl.pem"), before, "the files have the fresher CRL");
    assert.equal(reloads(), 0, "and the proxy was left alone");

    const somebody = await enrolled(service, "client-1");
    await service.admin("POST", "/v1/revocations", { serial: somebody.answer.serial, reason: "keyCompromise" });
    assert.equal((await passOnce(counted, { force: false }, idle)).failed, false, host.lines.join(""));
    assert.equal(reloads(), 1);
  });
});

test("a journal that cannot be written stops nothing for good: the agent waits, and goes on when it can", async () => {
  await tell({}, async ({ host, agent }) => {
    const before = host.installed();
    const full: AgentContext = {
      ...agent,
      journal: {
        get state() {
          return agent.journal.state;
        },
        update: () => Promise.reject(Object.assign(new Error("no space left on device"), { code: "ENOSPC" })),
      },
    };
    full.view.forced = true;
    const decision = await takeStep(full, idle);
    assert.equal(decision.action, "wait");
    assert.match(decision.reason, /the journal cannot be written: no space left/);
    assert.equal(host.installed(), before);
    agent.view.forced = true;
    assert.equal((await takeStep(agent, idle)).action, "renew");
    assert.notEqual(agent.journal.state.next, null);
  });
});
