import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { settled, use } from "../support/agent-client.ts";
import { until } from "../support/agent.ts";
import { feedAgents, type FeedAgent } from "../support/feed-agents.ts";
import { startService, type TestService } from "../support/service.ts";
import { newleaf } from "../support/terminal.ts";

interface Confirmations {
  readonly connected: number;
  readonly confirmed: number;
  readonly unconfirmed: readonly { identity: string; number: number | null; failure: string | null }[];
  readonly silent: number;
  readonly silentUnconfirmed: readonly { identity: string }[];
}

let service: TestService;
let agents: FeedAgent[];
let issuer: string;

const newleafHere = (...argv: string[]) => newleaf([...argv, "--data", service.dataDir]);

async function newest(): Promise<number> {
  const { items } = await service.admin<{ items: { id: string; crl: { number: number } }[] }>("GET", "/v1/issuers");
  return items.find(({ id }) => id === issuer)?.crl.number ?? assert.fail();
}

async function confirmations(number: number): Promise<Confirmations> {
  return service.admin("GET", `/v1/crls/${issuer}/confirmations?number=${number}`);
}

async function settle(count: number): Promise<void> {
  const number = await newest();
  await until("all have reported", async () => (await confirmations(number)).confirmed === count);
}

describe("confirmation of a revocation", () => {
  before(async () => {
    service = await startService();
    issuer = service.server.authority.issuers.rows.find(({ kind }) => kind === "intermediate")?.id ?? "";
    agents = await feedAgents(service, 4);
    await settle(4);
  });
  after(async () => {
    for (const agent of agents) await agent[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
  });

  it("--wait ends when every connected agent has the CRL, and says so", async () => {
    const { answer } = await settled(service, "victim-1");
    const done = await newleafHere("cert", "revoke", "--serial", answer.serial, "--wait", "10s", "--yes");
    assert.deepEqual([done.code, /Every connected agent has confirmed/.test(done.out)], [0, true], done.err);
    assert.match(done.err, /4 of 4 connected agents have it/);
    const again = await newleafHere("cert", "revoke", "--serial", answer.serial, "--wait", "10s", "--yes", "--json");
    const { confirmed, revoked } = JSON.parse(again.out) as { confirmed: boolean; revoked: { state: string }[] };
    assert.deepEqual([again.code, confirmed, revoked[0]?.state], [0, true, "unchanged"]);
  });

  it("repeated after a later CRL, it waits for the one that first listed the revocation", async () => {
    const { answer } = await settled(service, "victim-2");
    await newleafHere("cert", "revoke", "--serial", answer.serial, "--wait", "10s", "--yes");
    const before = await newest();
    await newleafHere("crl", "publish");
    const again = await newleafHere("cert", "revoke", "--serial", answer.serial, "--wait", "10s", "--yes", "--json");
    const { crls } = JSON.parse(again.out) as { crls: { number: number }[] };
    assert.deepEqual(
      crls.map(({ number }) => number),
      [before],
    );
  });

  it("holds and releases are followed as well", async () => {
    const { answer } = await settled(service, "victim-3");
    for (const verb of ["hold", "release"]) {
      const argv = ["cert", verb, answer.serial, "--wait", "10s", ...(verb === "hold" ? ["--yes"] : [])];
      const done = await newleafHere(...argv);
      assert.deepEqual([done.code, /Every connected agent/.test(done.out)], [0, true], done.err);
    }
  });

  it("counts agents only: not operators, nor who renews without ever reporting; a revoked one no longer", async () => {
    const plain = await settled(service, "plain-client");
    await use(service, plain);
    const number = await newest();
    assert.equal((await confirmations(number)).connected, 4);
    const fifth = (await feedAgents(service, 1, "fifth"))[0] ?? assert.fail();
    await settle(5);
    const done = await newleafHere("cert", "revoke", "--identity", fifth.identity, "--wait", "10s", "--yes");
    assert.equal(done.code, 0, done.err);
    const now = await confirmations(await newest());
    assert.deepEqual([now.connected, now.silent], [4, 0], "the revoked one neither counts nor is missed");
    await fifth[Symbol.asyncDispose]();
  });

  it("a failing reload is unconfirmed at the timeout: exit code 1, named with its reason", async () => {
    const [broken] = agents;
    broken?.breakReload();
    const { answer } = await settled(service, "victim-4");
    const done = await newleafHere("cert", "revoke", "--serial", answer.serial, "--wait", "2s", "--yes");
    assert.equal(done.code, 1);
    assert.match(
      done.err,
      /Revoked but unconfirmed after 2s: feed-1 \(has CRL \d+; reload: nginx -t: unknown directive\)/,
    );
    assert.match(done.err, /3 of 4 connected agents have it/);
  });

  it("who is not connected is named and does not count", async () => {
    const [gone, ...rest] = agents;
    await gone?.[Symbol.asyncDispose]();
    agents = rest;
    service.clock.advance(3 * 60_000);
    await until("the others hold their polls", async () => (await confirmations(await newest())).connected === 3);
    const { answer } = await settled(service, "victim-5");
    const done = await newleafHere("cert", "revoke", "--serial", answer.serial, "--wait", "10s", "--yes");
    assert.deepEqual(
      [done.code, /Not connected, and not known to have it: feed-1 /.test(done.err)],
      [0, true],
      done.err,
    );
  });

  it("knows after a restart what was reported before it", async () => {
    await service.restart();
    const { silent, silentUnconfirmed } = await confirmations(await newest());
    assert.ok(silent >= 1, "read from the store");
    assert.ok(silentUnconfirmed.some(({ identity }) => identity === "feed-1"));
  });

  it("a CRL that was never published cannot be asked for", async () => {
    await assert.rejects(confirmations((await newest()) + 1), { code: "request-invalid" });
    await assert.rejects(service.admin("GET", "/v1/crls/nobody/confirmations?number=1"), { code: "not-found" });
  });
});
