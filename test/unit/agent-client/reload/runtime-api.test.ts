/** What a socket may do to the agent, and the agent to a socket. HAProxy's own behaviour: test/integration/agent-client/haproxy-socket.test.ts. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openToAll } from "../../../../agent-client/reload/control-address.ts";
import { ask, isSpeakable, RuntimeApiError } from "../../../../agent-client/reload/runtime-api.ts";
import { reload } from "../../../../agent-client/reload/drivers.ts";
import { needs } from "../../../support/programs.ts";
import { temporaryDirectory } from "../../../support/temporary-directory.ts";
import { certificatePem, keyPem, makeRoot } from "../../../support/test-ca.ts";

describe("HAProxy's socket", { skip: needs("openssl") }, () => {
  const directory = temporaryDirectory("runtime-api");
  const closing: (() => void)[] = [];
  after(() => closing.forEach((close) => close()));
  let count = 0;

  /** Answers as it is told to; what it was sent is in `heard`. */
  const stand = async (answer: (socket: Socket, said: string) => void): Promise<{ path: string; heard: string[] }> => {
    count += 1;
    const path = join(directory, `${count}.sock`);
    const heard: string[] = [];
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.on("data", (chunk: Buffer) => {
        heard.push(chunk.toString("utf8"));
        answer(socket, chunk.toString("utf8"));
      });
    });
    server.listen(path);
    await once(server, "listening");
    closing.push(() => server.close());
    return { path, heard };
  };

  it("says one command a connection, and a payload without the empty line that would end it early", async () => {
    const { path, heard } = await stand((socket) => socket.end("yes\n\n"));
    assert.equal(await ask(path, ["show", "version"]), "yes\n\n");
    await ask(path, ["set", "ssl", "cert", "/a"], { payload: "one\r\n\n \ntwo\n" });
    assert.deepEqual(heard, ["show version\n", "set ssl cert /a <<\none\ntwo\n\n"]);
  });

  it("is not trusted where another user could have put it", async () => {
    const shared = join(directory, "shared");
    const inside = join(shared, "haproxy");
    mkdirSync(inside, { recursive: true });
    const socket = join(inside, "admin.sock");
    assert.equal(await openToAll(socket), null);
    chmodSync(shared, 0o1777);
    assert.equal(await openToAll(socket), null, "its directory is our own");
    assert.equal(await openToAll(join(shared, "admin.sock")), shared);
    chmodSync(shared, 0o777);
    assert.equal(await openToAll(socket), shared, "anybody may put another directory in its place");
    if (process.geteuid?.() !== 0) return;
    chmodSync(shared, 0o1777);
    chownSync(inside, 65_534, 65_534);
    assert.equal(await openToAll(socket), shared, "anybody may have made it");
  });

  it("does not say a name that HAProxy would read as more than a name", async () => {
    const { path, heard } = await stand((socket) => socket.end());
    const names = ["/a b", "/a;shutdown", "/a\nshow", "/a\\b", "/a<<", "/a'", '/a"', "/a#b", "/a$b", "/é", "", "/a\0"];
    for (const name of names) {
      assert.equal(isSpeakable(name), false, JSON.stringify(name));
      await assert.rejects(ask(path, ["show", "ssl", "cert", name]), RuntimeApiError);
    }
    assert.deepEqual(heard, []);
    assert.ok(isSpeakable("/etc/newleaf/gateway-1/current/combined.pem"));
  });

  it("ends a dialogue that takes too long, says too much, or is no longer wanted", async () => {
    const silent = await stand(() => undefined);
    await assert.rejects(ask(silent.path, ["show"], { timeoutMs: 50 }), /no answer to "show" .* within 0.05 s/);
    const endless = await stand((socket) => {
      const pour = (): void => void (socket.destroyed || (socket.write("x".repeat(60_000)), setImmediate(pour)));
      pour();
    });
    await assert.rejects(ask(endless.path, ["show"]), /does not end/);
    const stopping = new AbortController();
    const asked = ask(silent.path, ["show"], { signal: stopping.signal });
    stopping.abort();
    await assert.rejects(asked, /the agent is stopping/);
    await assert.rejects(ask(silent.path, ["show"], { signal: stopping.signal }), /the agent is stopping/);
  });

  it("names what to do when there is no socket, nobody behind it, or its path is too long", async () => {
    await assert.rejects(ask(join(directory, "none"), ["show"]), /no such socket: start HAProxy/);
    await assert.rejects(ask(`/${"x".repeat(120)}`, ["show"]), /longer than the path of a socket/);
    const file = join(directory, "file");
    writeFileSync(file, "");
    await assert.rejects(ask(file, ["show"]), /nobody answers there/);
  });

  it("believes a master of 2.7 and later that answers Success=0, and one whose count says that it failed", async () => {
    const home = join(directory, "master");
    mkdirSync(home);
    const target = { directory: home, owner: null, group: null, mode: 0o600, links: {} };
    /** Says `answer` to `reload`; afterwards `show proc` has one reload more, and a new worker if all went well. */
    const tell = async (answer: string, isTaken: boolean) => {
      let reloads = 3;
      const master = await stand((socket, said) => {
        if (said.startsWith("reload")) reloads += 1;
        const isNew = reloads > 3 && isTaken;
        const failed = reloads > 3 && !isTaken ? 1 : 0;
        socket.end(
          said.startsWith("reload")
            ? answer
            : `#<PID> <type> <reloads> <uptime>\n10 master ${reloads} [failed: ${failed}] 0d\n# workers\n${isNew ? "12 worker 0 0d\n# old workers\n11 worker 1 0d" : "11 worker 1 0d"}\n`,
        );
      });
      return reload(
        {
          kind: "haproxy",
          socket: join(directory, "none"),
          reload: { kind: "master", socket: master.path, timeoutMs: 2000 },
          certificate: null,
          caFile: null,
          crlFile: null,
        },
        { target: { ...target, files: ["combined.pem", "crl.pem"] } },
      );
    };
    const taken = await tell("Success=1\n--\nloaded\n", true);
    assert.match(taken.detail, /new worker 12/);
    assert.equal(taken.ok, true);
    assert.match((await tell("Success=0\n--\nALERT\n", true)).detail, /refused the reload and keeps its old worker/);
    assert.match((await tell("", false)).detail, /refused the reload and keeps its old worker/);
  });

  it("does not repeat what a socket sends back of the key, nor take a Success that shows another leaf", async () => {
    const root = makeRoot(directory);
    const leaf = root.issue();
    const home = join(directory, "installed");
    mkdirSync(join(home, "current"), { recursive: true });
    const name = join(home, "current", "combined.pem");
    writeFileSync(name, keyPem(leaf.key) + certificatePem(leaf.certificate), { mode: 0o600 });
    const target = {
      directory: home,
      files: ["combined.pem"],
      owner: null,
      group: null,
      mode: 0o600,
      links: {},
    } as const;
    const tell = (socket: string) =>
      reload({ kind: "haproxy", socket, reload: null, certificate: null, caFile: null, crlFile: null }, { target });

    const echo = await stand((socket, said) =>
      socket.end(said.startsWith("show") ? `Filename: ${name}\n` : `Unknown command: ${said}`),
    );
    const echoed = await tell(echo.path);
    assert.equal(echoed.ok, false);
    assert.match(echoed.detail, /HAProxy does not take .*its answer is not repeated here/);

    const liar = await stand((socket, said) => {
      if (said.startsWith("set")) socket.end("Transaction created!\n");
      else if (said.startsWith("commit")) socket.end("Success!\n");
      else socket.end(`Filename: ${name}\nSHA1 FingerPrint: ${"A".repeat(40)}\n`);
    });
    const lied = await tell(liar.path);
    assert.equal(lied.ok, false);
    assert.match(lied.detail, /says Success, and still shows another/);
  });
});
