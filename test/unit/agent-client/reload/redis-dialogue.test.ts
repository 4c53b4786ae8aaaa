import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, describe, it } from "node:test";
import {
  connectTo,
  decodeReply,
  encodeCommand,
  RedisRefusal,
  type Reply,
  startDialogue,
} from "../../../../agent-client/reload/redis-dialogue.ts";

describe("the dialogue with Redis", () => {
  it("sends every argument with its length, so that none becomes a command", () => {
    assert.equal(
      encodeCommand(["AUTH", "a\r\nFLUSHALL\r\n", "ü"]).toString(),
      "*3\r\n$4\r\nAUTH\r\n$13\r\na\r\nFLUSHALL\r\n\r\n$2\r\nü\r\n",
    );
  });

  const replies: [string, Reply][] = [
    ["+OK\r\n", "OK"],
    [":-12\r\n", -12],
    ["$5\r\na\r\nbc\r\n", "a\r\nbc"],
    ["$2\r\nü\r\n", "ü"],
    ["$0\r\n\r\n", ""],
    ["$-1\r\n", null],
    ["*-1\r\n", null],
    ["*0\r\n", []],
    ["*3\r\n$1\r\na\r\n:1\r\n*1\r\n$-1\r\n", ["a", 1, [null]]],
  ];
  it("reads replies of each kind, and nothing of one that is not whole", () => {
    for (const [text, value] of replies) {
      const bytes = Buffer.from(text);
      assert.deepEqual(decodeReply(bytes), { value, end: bytes.length }, text);
      for (let cut = 0; cut < bytes.length; cut += 1) assert.equal(decodeReply(bytes.subarray(0, cut)), null, text);
    }
    const refused = decodeReply(Buffer.from("-ERR no\r\n"));
    assert.ok(refused?.value instanceof RedisRefusal && refused.value.message === "ERR no");
  });

  it("does not believe what is not RESP 2", () => {
    for (const text of [
      "HTTP/1.1 400\r\n",
      "\u0015\u0003\u0001",
      ":1e3\r\n",
      "$9999999\r\n",
      "*70000\r\n",
      `${"*1\r\n".repeat(6)}:1\r\n`,
    ])
      assert.throws(() => decodeReply(Buffer.from(text)), Error, text);
  });

  const answers: ((socket: Socket) => void)[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => answers.shift()?.(socket));
  }).listen(0, "127.0.0.1");
  after(() => server.close());
  const begin = async (answer: (socket: Socket) => void) => {
    if (!server.listening) await once(server, "listening");
    answers.push(answer);
    const opened: Socket[] = [];
    const { port } = server.address() as AddressInfo;
    const socket = await connectTo({ host: "127.0.0.1", port }, opened);
    return { dialogue: startDialogue(socket), [Symbol.dispose]: () => void opened.map((each) => each.destroy()) };
  };

  it("puts a reply together from its pieces, and gives a refusal in Redis's own words", async () => {
    using pieces = await begin((socket) => {
      socket.write("*1\r\n$4\r\nde");
      setTimeout(() => socket.write("ep\r\n"), 20);
    });
    assert.deepEqual(await pieces.dialogue.ask("CONFIG", "GET", "x"), ["deep"]);
    using refusal = await begin((socket) => socket.write("-NOPERM no\r\n"));
    await assert.rejects(refusal.dialogue.ask("CONFIG"), new RedisRefusal("NOPERM no"));
  });

  it("ends with a server that talks without end, or not to the end", async () => {
    using endless = await begin((socket) => {
      const more = (): boolean => socket.writable && socket.write("x".repeat(16_384)) && setImmediate(more) !== null;
      socket.write("+");
      more();
    });
    await assert.rejects(endless.dialogue.ask("PING"), /longer than 64 KiB/);
    using cut = await begin((socket) => socket.end("$10\r\nabc"));
    await assert.rejects(cut.dialogue.ask("PING"), /connection was closed/);
    await assert.rejects(cut.dialogue.ask("PING"), /connection was closed/, "and later ones too");
  });
});
