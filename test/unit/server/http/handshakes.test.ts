import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, createServer, get } from "node:https";
import { type AddressInfo, connect, type Socket } from "node:net";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type HandshakeLimits, handshakesInTurn } from "../../../../server/http/handshakes.ts";
import { until } from "../../../support/agent.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeRoot } from "../../../support/test-ca.ts";

const leaf = makeRoot(temporaryDirectory("handshakes")).issue();
const ending: (() => void)[] = [];
after(() => {
  for (const end of ending) end();
});

async function start(limits: HandshakeLimits) {
  const settings = { key: keyPem(leaf.key), cert: certificatePem(leaf.certificate), pauseOnConnect: true };
  const server = createServer(settings, (_request, response) => response.end("hello"));
  server.on("tlsClientError", () => undefined);
  const counts = { refused: 0, accepted: 0 };
  const crowd = { waiting: 0 };
  handshakesInTurn(server, () => (counts.refused += 1), crowd, limits);
  server.on("connection", () => (counts.accepted += 1));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  ending.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const visit = (agent?: Agent): Promise<string> =>
    new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port, rejectUnauthorized: false, agent: agent ?? (false as const) };
      get(options, (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString()));
        response.on("end", () => resolve(text));
      }).on("error", reject);
    });
  /** Connects and says nothing. */
  const silent = async (): Promise<Socket> => {
    const before = counts.accepted;
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    ending.push(() => socket.destroy());
    await until("it is accepted", () => counts.accepted > before);
    return socket;
  };
  return { counts, crowd, visit, silent };
}

describe("handshakes in turn", () => {
  it("one waits until another is over, and is then made as if it had not waited", async () => {
    const { crowd, visit, silent } = await start({ maxAtOnce: 2 });
    const [first] = [await silent(), await silent()];
    assert.equal(crowd.waiting, 0);
    const answer = visit();
    assert.equal(await Promise.race([answer, sleep(150).then(() => "waits")]), "waits");
    assert.equal(crowd.waiting, 1);
    first.destroy();
    assert.equal(await answer, "hello");
    assert.equal(crowd.waiting, 0);
  });

  it("a connection that is kept afterwards takes nobody's turn", async () => {
    const { visit } = await start({ maxAtOnce: 2 });
    const agents = Array.from({ length: 6 }, () => new Agent({ keepAlive: true }));
    ending.push(() => agents.forEach((agent) => agent.destroy()));
    for (const agent of agents) assert.equal(await visit(agent), "hello");
    for (const agent of agents) assert.equal(await visit(agent), "hello");
  });

  it("a handshake that fails frees its turn", async () => {
    const { visit, silent } = await start({ maxAtOnce: 1 });
    for (let count = 0; count < 3; count++) (await silent()).write("GET / HTTP/1.1\r\n\r\n");
    assert.equal(await visit(), "hello");
  });

  it("no more wait than there is room for", async () => {
    const { counts, visit, silent } = await start({ maxAtOnce: 1, maxWaiting: 1 });
    const [first] = [await silent(), await silent()];
    await assert.rejects(visit());
    assert.equal(counts.refused, 1);
    first.destroy();
  });

  it("one that waited too long is closed rather than begun; the next gets its turn", async () => {
    const { counts, visit, silent } = await start({ maxAtOnce: 1, maxWait: 200 });
    const first = await silent();
    const old = visit().catch(() => "closed");
    await sleep(250);
    const fresh = visit();
    await sleep(20);
    first.destroy();
    assert.deepEqual([await old, await fresh, counts.refused], ["closed", "hello", 1]);
  });
});
