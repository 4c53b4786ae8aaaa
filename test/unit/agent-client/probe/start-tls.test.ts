import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import { after, describe, it } from "node:test";
import { TLSSocket } from "node:tls";
import { probeOnce, type StartTls } from "../../../../agent-client/probe/probe.ts";
import { fingerprint } from "../../../../shared/fingerprint.ts";
import { makeMaterial } from "../../../support/material.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { makeTestCa } from "../../../support/test-ca.ts";
import { contextOf, listen } from "../../../support/tls-server.ts";

/** One turn of a server's dialogue: what it must hear (null: it speaks first), and what it says then. */
type Turn = readonly [hears: RegExp | Buffer | null, says: string | Buffer];

const mysqlGreeting = (capabilities: number): Buffer => {
  const payload = Buffer.concat([
    Buffer.from("\u000a8.0.36\0", "latin1"),
    Buffer.alloc(4 + 8 + 1, 1),
    Buffer.of(capabilities & 0xff, capabilities >> 8),
    Buffer.alloc(20),
  ]);
  return Buffer.concat([Buffer.of(payload.length, 0, 0, 0), payload]);
};
/** SSLRequest, sequence 1: CLIENT_SSL, PROTOCOL_41, SECURE_CONNECTION; 16 MiB; utf8mb4; 23 zeros. */
const mysqlRequest = Buffer.concat([Buffer.from("20000001008a0000000000012d", "hex"), Buffer.alloc(23)]);
const ldapRequest = Buffer.from("301d02010177188016312e332e362e312e342e312e313436362e3230303337", "hex");
const ldapAnswer = (code: number): Buffer =>
  Buffer.from(`300c02010178070a01${code.toString(16).padStart(2, "0")}04000400`, "hex");

const dialogues: Readonly<Record<StartTls, readonly Turn[]>> = {
  postgres: [[Buffer.from("0000000804d2162f", "hex"), "S"]],
  smtp: [
    [null, "220-mail.test\r\n220 ready\r\n"],
    [/^EHLO \S+\r\n$/, "250-mail.test\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 HELP\r\n"],
    [/^STARTTLS\r\n$/, "220 go ahead\r\n"],
  ],
  imap: [
    [null, "* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n"],
    [/^\S+ STARTTLS\r\n$/, "* CAPABILITY STARTTLS\r\na1 OK begin\r\n"],
  ],
  ldap: [[ldapRequest, ldapAnswer(0)]],
  mysql: [
    [null, mysqlGreeting(0xffff)],
    [mysqlRequest, ""],
  ],
};

describe("startTls", { skip: needs("openssl") }, () => {
  const material = makeMaterial(makeTestCa(temporaryDirectory("start-tls")));
  const servers: { stop(): Promise<void> }[] = [];
  after(async () => {
    await Promise.all(servers.map((server) => server.stop()));
  });

  /** Plays the turns, byte by byte if asked, then TLS. */
  const play = async (socket: Socket, turns: readonly Turn[], slowly: boolean, misheard: string[]): Promise<void> => {
    for (const [hears, says] of turns) {
      if (hears !== null) {
        const heard = await hear(socket, Buffer.isBuffer(hears) ? hears.length : null);
        const right = Buffer.isBuffer(hears) ? heard.equals(hears) : hears.test(heard.toString("latin1"));
        if (!right) misheard.push(heard.toString("hex"));
      }
      const bytes = Buffer.from(says as string);
      for (const part of slowly ? bytes.map((byte) => byte) : []) {
        socket.write(Buffer.of(part));
        await new Promise(setImmediate);
      }
      if (!slowly) socket.write(bytes);
    }
    const secure = new TLSSocket(socket, { isServer: true, secureContext: contextOf(material) });
    secure.on("error", () => undefined).resume();
  };
  const probe = async (startTls: StartTls, turns: readonly Turn[], slowly = false): Promise<string> => {
    const misheard: string[] = [];
    const server = await listen(
      createServer((socket) => {
        play(socket, turns, slowly, misheard).catch(() => socket.destroy());
      }),
    );
    servers.push(server);
    const connect = `127.0.0.1:${server.port}`;
    const answer = await probeOnce({ connect, serverName: "localhost", timeoutMs: 1000, startTls });
    assert.deepEqual(misheard, []);
    if ("error" in answer) assert.equal(answer.reachable, true);
    return "error" in answer ? answer.error : answer.fingerprint;
  };

  for (const [protocol, turns] of Object.entries(dialogues) as [StartTls, readonly Turn[]][]) {
    it(`speaks ${protocol} up to the handshake, whole or in pieces`, async () => {
      assert.equal(await probe(protocol, turns), fingerprint(material.leaf));
      assert.equal(await probe(protocol, turns, true), fingerprint(material.leaf));
    });

    it(`${protocol}: refuses what was said in the clear after the last answer`, async () => {
      const last = turns.at(-1) as Turn;
      const injected = Buffer.concat([Buffer.from(last[1] as string), Buffer.from("injected")]);
      const extra =
        protocol === "mysql" ? [[null, Buffer.concat([mysqlGreeting(0xffff), Buffer.from("injected")])] as Turn] : [];
      const changed = extra.length > 0 ? extra : [...turns.slice(0, -1), [last[0], injected] as Turn];
      assert.match(await probe(protocol, changed), /more than it was asked/);
    });

    it(`${protocol}: does not take another server for one`, async () => {
      const http = Buffer.from("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
      assert.match(await probe(protocol, [[null, http]]), /not an? |Bad Request|more than/);
    });

    it(`${protocol}: gives up on a server that says nothing`, async () => {
      const silent = await listen(createServer());
      servers.push(silent);
      const connect = `127.0.0.1:${silent.port}`;
      const answer = await probeOnce({ connect, serverName: "localhost", timeoutMs: 150, startTls: protocol });
      assert.ok("error" in answer && /no handshake within/.test(answer.error), JSON.stringify(answer));
    });
  }

  it("says when a server has TLS switched off", async () => {
    assert.match(await probe("postgres", [[Buffer.from("0000000804d2162f", "hex"), "N"]]), /ssl = on/);
    assert.match(await probe("mysql", [[null, mysqlGreeting(0xf7ff)]]), /ssl_cert/);
    assert.match(await probe("ldap", [[ldapRequest, ldapAnswer(2)]]), /resultCode 2/);
    const smtp = dialogues.smtp.map(([hears, says]): Turn => [hears, String(says).replace("250-STARTTLS\r\n", "")]);
    assert.match(await probe("smtp", smtp.slice(0, 2)), /does not offer STARTTLS/);
    const imap: Turn[] = [
      [null, "* OK hi\r\n"],
      [/STARTTLS/, "a1 BAD unknown\r\n"],
    ];
    assert.match(await probe("imap", imap), /answers STARTTLS with "a1 BAD unknown"/);
  });

  it("reads LDAP answers with long lengths", async () => {
    const long = Buffer.from("3084000000100201017884000000070a010004000400", "hex");
    assert.equal(await probe("ldap", [[ldapRequest, long]]), fingerprint(material.leaf));
  });
});

/** So many bytes, or a line. */
function hear(socket: Socket, count: number | null): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let heard = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      heard = Buffer.concat([heard, chunk]);
      if (count === null ? heard.includes(0x0a) : heard.length >= count) {
        socket.off("data", onData).pause();
        resolve(count === null ? heard : heard.subarray(0, count));
        if (count !== null && heard.length > count) socket.unshift(heard.subarray(count));
      }
    };
    socket.on("data", onData).resume();
    socket.once("close", () => reject(new Error("closed")));
  });
}
