import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { describe, it } from "node:test";
import { createCrowd } from "../../../../server/authority/herd/crowd.ts";
import { watchCrowd } from "../../../../server/http/crowd-watch.ts";
import { until } from "../../../support/agent.ts";

describe("a crowd", () => {
  it("is here after 32 rounds in a row that let somebody in, and over with the first that does not", () => {
    const crowd = createCrowd();
    let over = 0;
    crowd.whenOver(() => (over += 1));
    for (let round = 0; round < 31; round++) crowd.sawRound(true);
    assert.equal(crowd.isHere(), false);
    crowd.sawRound(false);
    assert.equal(over, 0, "there was none");
    for (let round = 0; round < 32; round++) crowd.sawRound(true);
    assert.equal(crowd.isHere(), true);
    crowd.sawRound(false);
    assert.deepEqual([crowd.isHere(), over], [false, 1]);
  });

  it("is seen by a server while connections wait to be accepted, and no longer", async () => {
    const crowd = createCrowd();
    let over = 0;
    crowd.whenOver(() => (over += 1));
    const server = createServer((socket) => socket.on("error", () => undefined));
    watchCrowd(server, crowd);
    server.listen({ port: 0, host: "127.0.0.1", backlog: 1_024 });
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const seen: boolean[] = [];
    server.on("connection", () => seen.push(crowd.isHere()));

    const one = connect(port, "127.0.0.1");
    await until("one is accepted", () => seen.length === 1);
    assert.deepEqual([seen, over], [[false], 0]);

    const many = Array.from({ length: 300 }, () => connect(port, "127.0.0.1").on("error", () => undefined));
    await until("all are accepted", () => seen.length === 301);
    assert.ok(seen.filter(Boolean).length > 200, `${seen.filter(Boolean).length} of 301 were let in during a crowd`);
    await until("it is over", () => !crowd.isHere());
    assert.ok(over >= 1);
    for (const socket of [one, ...many]) socket.destroy();
    server.close();
  });
});
