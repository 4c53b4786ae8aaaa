import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import { after, before, describe, it } from "node:test";
import { credentials, renew, settled, use, type Host } from "../support/agent-client.ts";
import { until } from "../support/agent.ts";
import { startService, type TestService } from "../support/service.ts";

let service: TestService;

interface Kept {
  readonly socket: TLSSocket;
  received(): string;
  send(path: string): void;
}

/** A kept connection of this host to a listener. */
async function connected(host: Host, listener: "agents" | "admin" = "agents"): Promise<Kept> {
  const { hostname, port } = new URL(service.urls[listener]);
  const socket = connect({
    host: hostname,
    port: Number(port),
    servername: "localhost",
    ca: service.roots,
    ...credentials(host),
  });
  let text = "";
  socket.on("data", (part: Buffer) => void (text += part.toString()));
  socket.on("error", () => undefined);
  await once(socket, "secureConnect");
  const send = (path: string): void => void socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  return { socket, received: () => text, send };
}

async function answered(kept: Kept): Promise<void> {
  await until("an answer", () => kept.received().includes("\r\n\r\n"));
}

async function closedWithin(kept: Kept, ms: number): Promise<boolean> {
  if (kept.socket.closed) return true;
  return Promise.race([
    once(kept.socket, "close").then(() => true),
    new Promise<boolean>((resolve) => setTimeout(() => resolve(false), ms)),
  ]);
}

/** One that waits between requests, one that has asked nothing yet, and one whose poll is held. */
async function threeOf(host: Host): Promise<{ idle: Kept; mute: Kept; polling: Kept }> {
  const idle = await connected(host);
  idle.send("/v1/renewal-window");
  await answered(idle);
  const mute = await connected(host);
  const changes = (await import("../support/agent-client.ts")).call(service, "agents", "GET", "/v1/changes", { host });
  const { cursor } = (await changes).body as { cursor: string };
  const polling = await connected(host);
  polling.send(`/v1/changes?after=${cursor}&wait=50s`);
  await until("the poll is held", () => service.server.authority.feed.held().includes(host.answer.identity));
  return { idle, mute, polling };
}

describe("connections of a leaf that is refused", () => {
  before(async () => {
    service = await startService();
  });
  after(() => service[Symbol.asyncDispose]());

  const ways: readonly (readonly [string, (host: Host) => Promise<unknown>, RegExp])[] = [
    [
      "revocation",
      ({ answer }) => service.admin("POST", "/v1/revocations", { serial: answer.serial }),
      /"certificate-revoked"/,
    ],
    [
      "hold",
      ({ answer }) =>
        service.admin("POST", `/v1/certificates/${answer.serial}/revocation`, { reason: "certificateHold" }),
      /"certificate-revoked"/,
    ],
    [
      "suspension",
      ({ answer }) => service.admin("POST", `/v1/identities/${answer.identity}/suspension`),
      /"identity-suspended"/,
    ],
    ["removal", ({ answer }) => service.admin("DELETE", `/v1/identities/${answer.identity}`), /"certificate-revoked"/],
  ];
  for (const [name, act, code] of ways) {
    it(`${name} ends them, and tells a held poll why`, async () => {
      const host = await settled(service, `by-${name}`);
      const other = await settled(service, `beside-${name}`);
      const mine = await threeOf(host);
      const others = await connected(other);
      await act(host);
      for (const kept of Object.values(mine)) assert.ok(await closedWithin(kept, 2_000));
      assert.match(mine.polling.received(), / 403 /);
      assert.match(mine.polling.received(), code);
      assert.equal(await closedWithin(others, 50), false, "those of others stay");
      others.socket.destroy();
      await assert.rejects(use(service, host), { code: code.source.replaceAll('"', "") });
    });
  }

  it("only those of the leaf: the identity's other leaf goes on", async () => {
    const first = await settled(service, "two-leaves");
    const second = await renew(service, first);
    await use(service, second);
    const old = await connected(first);
    const current = await connected(second);
    await service.admin("POST", "/v1/revocations", { serial: first.answer.serial });
    assert.ok(await closedWithin(old, 1_000));
    current.send("/v1/renewal-window");
    await answered(current);
    assert.match(current.received(), /^HTTP\/1.1 200 /);
    current.socket.destroy();
  });

  it("what has gone is forgotten", async () => {
    const { connections } = service.server.authority;
    const host = await settled(service, "counted");
    const kept = await connected(host);
    await until("it is kept", () => connections.count > 0);
    const before = connections.count;
    kept.socket.destroy();
    await until("it is forgotten", () => connections.count < before);
  });

  it("an operator who revokes his own leaf gets the answer, and no other", async () => {
    const { items } = await service.admin<{ items: { serial: string; state: string }[] }>(
      "GET",
      "/v1/certificates?identity=admin@operators",
    );
    const own = items.find(({ state }) => state === "current");
    const done = await service.admin<{ total: number }>("POST", "/v1/revocations", { serial: own?.serial });
    assert.equal(done.total, 1);
    await assert.rejects(service.admin("GET", "/v1/status"), { code: "certificate-revoked" });
  });
});
